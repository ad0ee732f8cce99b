"""The causal-lm policy: any Hugging Face causal language model with a chat template, trained in this process.

Differences from the paper's setting:
1. With answer = "choice" the answer is constrained to the admissible actions by a token trie, and all probabilities
   are those of the distribution renormalised over the tokens that the trie admits.
2. Where rollouts sample at a temperature other than 1, the ratio of Eq. 6 is between distributions at that
   temperature (`temperature`), so that it starts at 1.
3. Dropout is always off, so that the probabilities of an update are those recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from d2skill.config import CausalLMConfig, OptimConfig, WarmStartConfig, step_sizes
from d2skill.errors import RunError
from d2skill.policies.answers import parse_action
from d2skill.policies.batching import decide_all
from d2skill.policies.causal_lm import loading
from d2skill.policies.causal_lm.architectures import execution_path
from d2skill.policies.causal_lm.chat_template import ChatTokenizer
from d2skill.policies.causal_lm.constrained_decoding import FreeDecoding
from d2skill.policies.causal_lm.execution_check import check_execution
from d2skill.policies.causal_lm.fine_tuning import FineTuning, FullFineTuning, LoraFineTuning, require_peft
from d2skill.policies.causal_lm.generation import Sampling, make_engine
from d2skill.policies.causal_lm.gradient_checkpointing import checkpointable_layers, gradient_checkpointing
from d2skill.policies.causal_lm.loss import (
    TrainingExample,
    microbatch_groups,
    score_tokens,
    token_log_probs,
    token_loss,
)
from d2skill.policies.causal_lm.optimizer import MasterWeightAdam
from d2skill.policies.causal_lm.prefix_sharing import NO_SHARING
from d2skill.policies.causal_lm.slots import LanguageModelSlots
from d2skill.policies.causal_lm.tiny_model import make_tiny_model
from d2skill.prompts import free_forms
from d2skill.types import AnswerScore, Decision, Prompt, Row
from d2skill.utils.finite import IMITATION, UPDATE, require_finite
from d2skill.utils.foreign_files import read_json
from d2skill.utils.process_group import ProcessGroup
from d2skill.utils.torch_device import device_named

KIND, FORMAT = "causal-lm", 1
META = "policy.json"
ACCURACY_SAMPLE = 64


class CausalLMPolicy:
    """A language model that acts in episodes and learns from them (see Policy).

    Args:
        settings: the model and its answers.
        optim: the update of Eq. 6.
        warm_start: epochs and learning rate of imitation.
        seed: draws the weights of the model "tiny", and those of an adapter.
        texts: returns sample texts of the environment; only called for the model "tiny", to train its tokenizer.
        temperature: of training rollouts; log-probabilities are recomputed at it.
        prompt_tokens: the budget of a prompt, which the model's context has to hold.

    Raises:
        ConfigError: for a model that cannot be found, has no chat template or too short a context, and for a device,
            a kind of attention or an adapter that is not available.
    """

    def __init__(
        self,
        settings: CausalLMConfig,
        optim: OptimConfig,
        warm_start: WarmStartConfig,
        seed: int,
        texts: Callable[[], Sequence[str]],
        temperature: float = 1.0,
        prompt_tokens: int = 0,
    ) -> None:
        self._settings, self._optim, self._warm_start = settings, optim, warm_start
        self._temperature, self._seed = temperature, seed
        self.processes = ProcessGroup()
        self.on_imitation_step: Callable[[int, int], None] | None = None
        """Called after each optimiser step of imitation with its number and that of all steps"""
        self._rate, self._imitation_rate = step_sizes("causal-lm", optim, warm_start, adapter=settings.lora_rank > 0)
        self._checkpointing = gradient_checkpointing if settings.gradient_checkpointing else nullcontext
        self._device = device_named(settings.device, "policy.lm.device")
        if settings.lora_rank:
            require_peft()
        if settings.model == "tiny":
            kind = loading.attention_kinds(settings, self._device)[0]
            model, tokenizer = make_tiny_model(settings, texts(), seed, kind)
            loading.check_context("tiny", model.config, tokenizer, settings, prompt_tokens)
            self._install(model, tokenizer)
        else:
            self._install(*loading.load_pretrained(settings.model, settings, self._device, prompt_tokens))

    def _install(self, model: Any, tokenizer: Any) -> None:
        """Makes a model and its tokenizer those of the policy, with a new optimiser and no reference."""
        lm = self._settings
        if lm.gradient_checkpointing:
            checkpointable_layers(model)
        self.fine_tuning: FineTuning = (
            LoraFineTuning(model, lm, self._seed) if lm.lora_rank else FullFineTuning(model, lm)
        )
        self.model = model.to(self._device).eval()
        if lm.model != "tiny":
            check_execution(self.model, lm)
        self._context = loading.context_length(model.config)
        prompt_limit = max(self._context - max(64, lm.max_new_tokens), self._context // 2)
        self.chat = ChatTokenizer(tokenizer, lm, loading.end_tokens(model, tokenizer), prompt_limit)
        self._adam = MasterWeightAdam(self.model, self._rate, self._optim.max_grad_norm)

    def count_tokens(self, text: str) -> int:
        """See Policy."""
        return self.chat.count_tokens(text)

    def slots(self, temperature: float) -> LanguageModelSlots:
        """See SupportsSlots."""
        return LanguageModelSlots(self.model, self.chat, self._settings, temperature)

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """See Policy. Log-probabilities are those before top-p and top-k, 0 for forced tokens."""
        with closing(self.slots(temperature)) as slots:
            return decide_all(slots, prompts, seeds)

    def generate_chat(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """See SupportsChat. A chat that leaves no room for its answer loses its beginning."""
        tokens = min(tokens, self._context // 2)
        prompts = [self.chat.chat_ids(messages)[-(self._context - tokens) :] for messages in chats]
        rng = np.random.default_rng(0)  # not used at temperature 0
        states = [FreeDecoding(rng, self.chat, tokens, closings=()) for _ in prompts]
        lm = self._settings
        make_engine(self.model, lm.slots, Sampling(0.0), lm.pass_tokens).run_all(prompts, states)
        return [self.chat.decode(state.tokens) for state in states]

    def score_answers(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[AnswerScore]:
        """See SupportsScoring. As in `update`, only chosen tokens count; 0 where the trie left nothing to choose.

        An answer all of whose tokens are the likeliest is the greedy one; only for others the greedy one is generated.
        """
        examples = {i: example for i, pair in enumerate(decided) if (example := self._example(Row(*pair, 0.0)))}
        keys = list(examples)
        scores = [AnswerScore(0.0, decision.action) for _, decision in decided]
        not_greedy = [i for i, (_, decision) in enumerate(decided) if not decision.tokens]
        for group in self._microbatches(list(examples.values())):
            batch = [keys[place] for place in group]
            sizes = [len(examples[i].positions) for i in batch]
            parts = [values.split(sizes) for values in score_tokens(self.model, [examples[i] for i in batch])]
            for i, log_probs, likeliest in zip(batch, *parts, strict=True):
                scores[i] = scores[i]._replace(log_prob=sum(log_probs.tolist()))
                if not likeliest.all():
                    not_greedy.append(i)
        greedy = self.act([decided[i][0] for i in not_greedy], [0] * len(not_greedy), 0.0)
        for i, decision in zip(not_greedy, greedy, strict=True):
            scores[i] = scores[i]._replace(greedy=decision.action)
        return scores

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """See Policy. The loss of a minibatch is the mean over its tokens that were chosen (Eq. 6).

        Metrics, all means over tokens: policy/loss, policy/kl (k3 to the reference), policy/clip_fraction,
        policy/entropy; policy/grad_norm, the mean over steps before clipping; policy/ratio_error, the largest
        |ratio − 1| in the first minibatch, which is rounding unless sampling and update disagree.
        """
        if self._optim.kl and not self.fine_tuning.has_reference:
            self.freeze_reference()
        pairs = [(example, row.prompt.task) for row in rows if (example := self._example(row)) is not None]
        # sums over tokens of loss, KL, clipped and entropy; float64, on the model's device
        totals = torch.zeros(4, dtype=torch.float64, device=self._device)
        norms: list[float] = []
        tokens, ratio_error = 0, 0.0
        order = np.random.default_rng(seed).permutation(len(pairs))
        for count, microbatches in self._minibatches([pairs[i] for i in order], self._optim.minibatch_rows):
            for microbatch in microbatches:
                sums, error = self._backward(microbatch, count)
                totals += sums
                ratio_error = ratio_error if norms else max(ratio_error, error)
            tokens += count
            norms.append(self._adam.step(self.processes))
        self.chat.kept_prompts.cache_clear()  # those of this iteration, which do not come again
        self.processes.all_reduce([totals])
        loss, kl, clipped, entropy = (totals / max(1, tokens)).tolist()
        require_finite("the loss", loss, UPDATE)
        self._adam.require_finite_weights()
        return {
            "policy/loss": loss,
            "policy/kl": kl,
            "policy/clip_fraction": clipped,
            "policy/entropy": entropy,
            "policy/grad_norm": float(np.mean(norms)) if norms else 0.0,
            "policy/ratio_error": max(self.processes.all_gather(ratio_error)),
        }

    def _microbatches(self, examples: Sequence[TrainingExample]) -> list[list[int]]:
        device = self._device.type if execution_path(self.model) == "batched" else NO_SHARING
        return microbatch_groups(examples, self._settings.pass_tokens, device)

    def _minibatches(
        self, pairs: Sequence[tuple[TrainingExample, str]], size: int
    ) -> Iterator[tuple[int, list[list[TrainingExample]]]]:
        """Yields the number of chosen tokens of each minibatch, and this process's shard of it in microbatches.

        Pairs are examples and their tasks, by which they are sharded.
        """
        for start in range(0, len(pairs), size):
            examples, tasks = zip(*pairs[start : start + size], strict=True)
            shard = [examples[i] for i in self.processes.shard(tasks)]
            microbatches = [[shard[i] for i in group] for group in self._microbatches(shard)]
            yield sum(len(example.positions) for example in examples), microbatches

    def _backward(self, examples: Sequence[TrainingExample], count: int) -> tuple[torch.Tensor, float]:
        """Adds the gradients of a part of a minibatch of `count` tokens; returns its sums and ratio error."""
        reference = None
        if self._optim.kl:
            with self.fine_tuning.reference() as model:
                reference, _ = token_log_probs(model, examples, self._temperature)
        with self._checkpointing(self.model):
            log_probs, entropy = token_log_probs(self.model, examples, self._temperature)
        old = [value for example in examples for value in example.old_log_probs]
        advantages = [example.advantage for example in examples for _ in example.positions]
        terms = token_loss(
            log_probs,
            torch.tensor(old, device=log_probs.device),
            torch.tensor(advantages, device=log_probs.device),
            reference,
            self._optim.clip,
            self._optim.kl,
        )
        (terms.loss.sum() / count).backward()
        sums = torch.stack([t.detach().double().sum() for t in (terms.loss, terms.kl, terms.clipped, entropy)])
        return sums, float((terms.ratio.detach() - 1).abs().max())

    def _example(self, row: Row) -> TrainingExample | None:
        """Returns the training example of a row; None if there was nothing to choose."""
        decision = row.decision
        if not decision.tokens:
            return None
        prompt = self.chat.prompt_ids(row.prompt)
        if not self.chat.is_constrained(row.prompt):
            positions = tuple(range(len(decision.tokens)))
            return TrainingExample(prompt, decision.tokens, positions, None, decision.log_probs, row.advantage)
        forks = list(self.chat.trie(row.prompt.actions).forks(decision.tokens))
        if not forks:
            return None
        forced = forks[0][0]  # tokens before the first choice go with the prompt
        return TrainingExample(
            prompt + decision.tokens[:forced],
            decision.tokens[forced:],
            tuple(position - forced for position, _ in forks),
            tuple(options for _, options in forks),
            tuple(decision.log_probs[position] for position, _ in forks),
            row.advantage,
        )

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """See Policy. Plain supervised fine-tuning over the whole vocabulary, with an Adam of its own.

        Metrics: warm_start/loss, nats per answer token in the last epoch; warm_start/accuracy, the share of greedy
        answers that are the demonstrated action, on a sample of 64.
        """
        if not demonstrations:
            return {}
        rng, pairs = np.random.default_rng(seed), []
        for prompt, action in demonstrations:
            answer = self.chat.answer_ids(prompt, action)
            example = TrainingExample(self.chat.prompt_ids(prompt), answer, tuple(range(len(answer))))
            pairs.append((example, prompt.task))
        loss = self._fit(pairs, rng)
        sample = rng.permutation(len(pairs))[:ACCURACY_SAMPLE].tolist()
        shard = sample[self.processes.rank :: self.processes.world_size]
        shown = [demonstrations[i] for i in shard]
        greedy = self.act([prompt for prompt, _ in shown], [0] * len(shard), 0.0)
        wanted = [parse_action(action, free_forms(prompt)) or action for prompt, action in shown]
        hits = sum(d.action == action for d, action in zip(greedy, wanted, strict=True))
        hit = self.processes.all_gather(hits)
        return {"warm_start/loss": loss, "warm_start/accuracy": sum(hit) / len(sample)}

    def imitate_chats(self, chats: Sequence[Sequence[dict[str, str]]], seed: int) -> dict[str, float]:
        """Fine-tunes on every answer of chats in OpenAI's form; returns warm_start/loss, see `imitate`."""
        pairs = []
        for messages in chats:
            for at, message in enumerate(messages):
                if message["role"] == "assistant" and at:
                    prompt, answer = self.chat.chat_ids(messages[:at]), self.chat.action_ids(message["content"])
                    answer = answer[: self._context // 2]
                    prompt = prompt[len(answer) - self._context :]
                    example = TrainingExample(prompt, answer, tuple(range(len(answer))))
                    pairs.append((example, messages[0]["content"]))
        return {"warm_start/loss": self._fit(pairs, np.random.default_rng(seed))}

    def _fit(self, pairs: Sequence[tuple[TrainingExample, str]], rng: np.random.Generator) -> float:
        """Fine-tunes on examples, given with what they are sharded by; returns nats a token in the last epoch."""
        del self._adam  # frees its memory before the next one is made
        self._adam = MasterWeightAdam(self.model, self._imitation_rate, self._optim.max_grad_norm, IMITATION)
        size, epochs = self._warm_start.minibatch_rows, self._warm_start.epochs
        steps, total = -(-len(pairs) // size) * epochs, 0.0
        for epoch in range(epochs):
            order, total = rng.permutation(len(pairs)), 0.0
            batches = self._minibatches([pairs[i] for i in order], size)
            for step, (count, microbatches) in enumerate(batches, start=1):
                for microbatch in microbatches:
                    with self._checkpointing(self.model):
                        loss = -token_log_probs(self.model, microbatch, 1.0)[0].sum()
                    (loss / count).backward()
                    total += float(loss.detach())
                self._adam.step(self.processes)
                if self.on_imitation_step:
                    self.on_imitation_step(epoch * (steps // epochs) + step, steps)
        require_finite("the loss", total, IMITATION)
        self._adam.require_finite_weights()
        del self._adam
        self._adam = MasterWeightAdam(self.model, self._rate, self._optim.max_grad_norm)
        tokens = sum(len(example.tokens) for example, _ in pairs)
        return float(sum(self.processes.all_gather(total))) / tokens

    def freeze_reference(self) -> None:
        """See Policy. Without a call the first update does it; without a KL term there is no reference."""
        if self._optim.kl:
            self.fine_tuning.freeze_reference()

    def checksum(self) -> str:
        """Returns a checksum of all trained weights, to the bit; it is equal in equal replicas."""
        return self._adam.checksum()

    def save(self, folder: Path) -> None:
        """See Policy. Weights are folders of Transformers or peft (see fine_tuning), the optimiser is safetensors."""
        form = self.fine_tuning.save(folder, self.chat.tokenizer)
        save_file(self._adam.state_tensors(), folder / "optimiser.safetensors")
        batches = {"microbatch_tokens": self._settings.pass_tokens, "generate_batch": self._settings.slots}
        reference = self.fine_tuning.has_reference
        meta = {"kind": KIND, "format": FORMAT, "reference": reference, "batches": batches, **form}
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """See Policy. The model is the one saved, whatever the settings name; an adapter is for the one they name.

        Batches are no larger than they were, so that a run goes on to the bit where memory was chosen for anew.
        A checkpoint of another engine may have its optimiser elsewhere: it can be played, but not trained further.
        """
        try:
            meta = read_json(folder / META)
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} has no readable {META}: is it a checkpoint of a causal-lm policy?") from error
        if not isinstance(meta, dict) or (meta.get("kind"), meta.get("format")) != (KIND, FORMAT):
            raise RunError(f"{folder / META} is not of a causal-lm policy of format {FORMAT}: {meta}")
        try:
            self.fine_tuning.check(folder, meta)
            lm = self._settings
            own = {"microbatch_tokens": lm.pass_tokens, "generate_batch": lm.slots}
            batches = {name: min(count, own[name]) for name, count in meta.get("batches", {}).items()}
            self._settings = lm.model_copy(update=batches)
            if base := self.fine_tuning.base(folder):
                self._install(*loading.load_pretrained(str(base), self._settings, self._device))
            self.fine_tuning.restore(folder, meta["reference"])
            self._adam = MasterWeightAdam(self.model, self._rate, self._optim.max_grad_norm)
            if meta.get("optimiser", True):
                self._adam.restore(load_file(folder / "optimiser.safetensors"))
        except Exception as error:  # of files that anybody may have written
            raise RunError(f"checkpoint {folder} is damaged: {error}") from error
