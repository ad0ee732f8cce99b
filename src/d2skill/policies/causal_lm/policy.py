"""The causal-lm policy: any Hugging Face causal language model with a chat template, trained in this process.

What differs from the paper's setting:
1. With answer = "choice" the answer is held to the admissible actions by a token trie, and all probabilities
   are those of the distribution renormalised over what the trie admits.
2. Where rollouts sample at a temperature other than 1, the ratio of Eq. 6 is between distributions at that
   temperature (`temperature`), so that it starts at 1.
3. Dropout is always off, so that the probabilities recorded are those recomputed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from d2skill.config import CausalLMConfig, OptimConfig, WarmStartConfig, step_sizes
from d2skill.errors import ConfigError, RunError
from d2skill.policies.batching import decide
from d2skill.policies.causal_lm.chat_template import Chat
from d2skill.policies.causal_lm.generation import Sampling
from d2skill.policies.causal_lm.gradient_checkpointing import layers_of, recomputing
from d2skill.policies.causal_lm.loading import attention_kinds, check_context, context_of, end_tokens, read_pretrained
from d2skill.policies.causal_lm.loss import Item, pack, policy_terms, token_log_probs, token_weights
from d2skill.policies.causal_lm.optimizer import Adam
from d2skill.policies.causal_lm.slots import LanguageModelSlots
from d2skill.policies.causal_lm.text_generation import write
from d2skill.policies.causal_lm.tiny_model import make_tiny
from d2skill.policies.causal_lm.tuning import make_tuning, require_peft
from d2skill.types import AnswerScore, Decision, Prompt, Row
from d2skill.utils.process_group import ProcessGroup
from d2skill.utils.torch_device import device_named

KIND, FORMAT = "causal-lm", 1
META = "policy.json"
ACCURACY_SAMPLE = 64


class CausalLMPolicy:
    """A language model that answers prompts and learns from what came of it (see Policy).

    Args:
        settings: the model and how it answers.
        optim: the update of Eq. 6.
        warm_start: epochs and learning rate of imitation.
        seed: draws the weights of the model "tiny", and those of an adapter.
        texts: gives sample text of the environment; only called for the model "tiny", to build its tokenizer.
        temperature: of training rollouts; log-probabilities are recomputed at it.
        prompt_tokens: the budget of a prompt, which the model's context has to hold.

    Raises:
        ConfigError: for a model that cannot be found, has no chat template or too short a context, and for a device,
            a kind of attention or an adapter that is not to be had.
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
        self._rate, self._imitation_rate = step_sizes("causal-lm", optim, warm_start, adapter=settings.lora_rank > 0)
        self._device = device_named(settings.device, "policy.lm.device")
        if settings.lora_rank:
            require_peft()
        if settings.model == "tiny":
            model, tokenizer = make_tiny(settings, texts(), seed, attention_kinds(settings, self._device)[0])
            check_context("tiny", model.config, tokenizer, settings, prompt_tokens)
            self._install(model, tokenizer)
        else:
            self._install(*read_pretrained(settings.model, settings, self._device, prompt_tokens))

    def _install(self, model: Any, tokenizer: Any) -> None:
        if self._settings.gradient_checkpointing:
            layers_of(model)
        self.tuning = make_tuning(model, self._settings, self._seed)
        self.model = model.to(self._device).eval()
        self.chat = Chat(tokenizer, self._settings, end_tokens(model, tokenizer), self._room())
        self._adam = Adam(self.model, self._rate, self._optim.max_grad_norm)

    def _room(self) -> int:
        """Returns the tokens of context left for a prompt."""
        context = context_of(self.model.config)
        return max(context - max(64, self._settings.max_new_tokens), context // 2)

    def count_tokens(self, text: str) -> int:
        """See Policy."""
        return self.chat.count(text)

    def slots(self, temperature: float) -> LanguageModelSlots:
        """See SupportsSlots."""
        lm = self._settings
        sampling = Sampling(temperature, lm.top_p, lm.top_k)
        return LanguageModelSlots(
            self.model, self.chat, sampling, lm.generate_batch, answer=lm.max_new_tokens, budget=lm.microbatch_tokens
        )

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float) -> list[Decision]:
        """See Policy. Log-probabilities are those before top-p and top-k, 0 for forced tokens."""
        with closing(self.slots(temperature)) as slots:
            return decide(slots, prompts, seeds)

    def generate_chat(self, chats: Sequence[Sequence[dict[str, str]]], tokens: int) -> list[str]:
        """See SupportsChat."""
        lm = self._settings
        return write(
            self.model,
            self.chat,
            chats,
            tokens=tokens,
            context=context_of(self.model.config),
            batch=lm.generate_batch,
            budget=lm.microbatch_tokens,
        )

    def score_answers(self, decided: Sequence[tuple[Prompt, Decision]]) -> list[AnswerScore]:
        """See SupportsScoring. As in `update`, only chosen tokens count; 0 where the trie left nothing to choose.

        An answer all of whose tokens are the likeliest is the greedy one; elsewhere that is written.
        """
        every = [self._item(Row(prompt, decision, 0.0)) for prompt, decision in decided]
        places = [i for i, item in enumerate(every) if item]
        items = [item for item in every if item]
        found = [AnswerScore(0.0, decision.action) for _, decision in decided]
        elsewhere = [i for i, (_, decision) in enumerate(decided) if not decision.tokens]
        for group in pack(items, self._settings.microbatch_tokens, self._device.type):
            batch = [items[i] for i in group]
            sizes = [len(item.positions) for item in batch]
            parts = [one.split(sizes) for one in token_weights(self.model, batch)]
            for i, log_probs, likeliest in zip(group, *parts, strict=True):
                place = places[i]
                found[place] = AnswerScore(sum(log_probs.tolist()), decided[place][1].action)
                if not likeliest.all():
                    elsewhere.append(place)
        written = self.act([decided[i][0] for i in elsewhere], [0] * len(elsewhere), 0.0)
        for i, decision in zip(elsewhere, written, strict=True):
            found[i] = found[i]._replace(greedy=decision.action)
        return found

    def update(self, rows: Sequence[Row], seed: int) -> dict[str, float]:
        """See Policy. The loss of a minibatch is the mean over its tokens that were chosen (Eq. 6).

        Metrics, all means over tokens: policy/loss, policy/kl (k3 to the reference), policy/clip_fraction,
        policy/entropy; policy/grad_norm, the mean over steps before cutting; policy/ratio_error, the largest
        |ratio − 1| in the first minibatch, which is rounding unless sampling and update disagree.
        """
        if self._optim.kl and not self.tuning.frozen:
            self.freeze_reference()
        known = [(item, row.prompt.task) for row in rows if (item := self._item(row)) is not None]
        # sums over tokens of loss, KL, clipped and entropy; float64, on the model's device
        totals = torch.zeros(4, dtype=torch.float64, device=self._device)
        tokens, norms, ratio_error = 0, [], 0.0
        order = np.random.default_rng(seed).permutation(len(known)).tolist()
        for start in range(0, len(order), self._optim.minibatch_rows):
            items, tasks = zip(*(known[i] for i in order[start : start + self._optim.minibatch_rows]), strict=True)
            count = sum(len(item.positions) for item in items)
            batch = [items[i] for i in self.processes.shard(tasks)]
            for group in pack(batch, self._settings.microbatch_tokens, self._device.type):
                sums, error = self._backward([batch[i] for i in group], count)
                totals += sums
                ratio_error = max(ratio_error, error) if start == 0 else ratio_error
            tokens += count
            norms.append(self._adam.step(self.processes))
        self.processes.all_reduce([totals])
        loss, kl, clipped, entropy = (totals / max(1, tokens)).tolist()
        return {
            "policy/loss": loss,
            "policy/kl": kl,
            "policy/clip_fraction": clipped,
            "policy/entropy": entropy,
            "policy/grad_norm": float(np.mean(norms)) if norms else 0.0,
            "policy/ratio_error": max(self.processes.all_gather(ratio_error)),
        }

    def _backward(self, items: Sequence[Item], count: int) -> tuple[torch.Tensor, float]:
        """Adds the gradients of a part of a minibatch of `count` tokens; returns its sums and ratio error."""
        reference = None
        if self._optim.kl:
            with self.tuning.reference() as model:
                reference, _ = token_log_probs(model, items, self._temperature)
        log_probs, entropy = self._learn(items, self._temperature)
        recorded = [value for item in items for value in item.recorded]
        advantages = [item.advantage for item in items for _ in item.positions]
        terms = policy_terms(
            log_probs,
            torch.tensor(recorded, device=log_probs.device),
            torch.tensor(advantages, device=log_probs.device),
            reference,
            self._optim.clip,
            self._optim.kl,
        )
        (terms.loss.sum() / count).backward()
        sums = torch.stack([t.detach().double().sum() for t in (terms.loss, terms.kl, terms.clipped, entropy)])
        return sums, float((terms.ratio.detach() - 1).abs().max())

    def _learn(self, items: Sequence[Item], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns `token_log_probs` of the model, which keeps what its gradients need, or as little of it as it can."""
        with recomputing(self.model) if self._settings.gradient_checkpointing else nullcontext():
            return token_log_probs(self.model, items, temperature)

    def _item(self, row: Row) -> Item | None:
        """Returns what there is to learn from a row; None where there was nothing to choose."""
        decision = row.decision
        if not decision.tokens:
            return None
        prompt = self.chat.prompt_ids(row.prompt)
        if not self.chat.chooses(row.prompt):
            everywhere = tuple(range(len(decision.tokens)))
            return Item(prompt, decision.tokens, everywhere, None, decision.log_probs, row.advantage)
        forks = list(self.chat.trie(row.prompt.actions).forks(decision.tokens))
        if not forks:
            return None
        lead = forks[0][0]
        return Item(
            prompt + decision.tokens[:lead],
            decision.tokens[lead:],
            tuple(position - lead for position, _ in forks),
            tuple(options for _, options in forks),
            tuple(decision.log_probs[position] for position, _ in forks),
            row.advantage,
        )

    def imitate(self, demonstrations: Sequence[tuple[Prompt, str]], seed: int) -> dict[str, float]:
        """See Policy. Plain supervised fine-tuning over the whole vocabulary, with an Adam of its own.

        Metrics: warm_start/loss, nats per answer token in the last epoch; warm_start/accuracy, how often the
        greedy answer is the demonstrated action, on a sample of 64.
        """
        if not demonstrations:
            return {}
        rng = np.random.default_rng(seed)
        del self._adam  # before another takes as much memory
        self._adam = Adam(self.model, self._imitation_rate, self._optim.max_grad_norm)
        items = []
        for prompt, action in demonstrations:
            answer = self.chat.answer_ids(prompt, action)
            items.append(Item(self.chat.prompt_ids(prompt), answer, tuple(range(len(answer)))))
        total = 0.0
        for _ in range(self._warm_start.epochs):
            order, total = rng.permutation(len(items)).tolist(), 0.0
            for start in range(0, len(order), self._warm_start.minibatch_rows):
                places = order[start : start + self._warm_start.minibatch_rows]
                count = sum(len(items[i].tokens) for i in places)
                own = self.processes.shard([demonstrations[i][0].task for i in places])
                batch = [items[places[i]] for i in own]
                for group in pack(batch, self._settings.microbatch_tokens, self._device.type):
                    loss = -self._learn([batch[i] for i in group], 1.0)[0].sum()
                    (loss / count).backward()
                    total += float(loss.detach())
                self._adam.step(self.processes)
        del self._adam
        self._adam = Adam(self.model, self._rate, self._optim.max_grad_norm)
        sample = rng.permutation(len(items))[:ACCURACY_SAMPLE].tolist()
        mine = sample[self.processes.rank :: self.processes.world_size]
        greedy = self.act([demonstrations[i][0] for i in mine], [0] * len(mine), 0.0)
        hits = sum(d.action == demonstrations[i][1] for i, d in zip(mine, greedy, strict=True))
        losses, hit = zip(*self.processes.all_gather((total, hits)), strict=True)
        tokens = sum(len(item.tokens) for item in items)
        return {"warm_start/loss": sum(losses) / tokens, "warm_start/accuracy": sum(hit) / len(sample)}

    def freeze_reference(self) -> None:
        """See Policy. Without a call the first update does it; without a KL term there is none."""
        if self._optim.kl:
            self.tuning.freeze()

    def checksum(self) -> str:
        """Returns a checksum of all that trains, to the bit; it is equal in equal replicas."""
        return self._adam.checksum()

    def save(self, folder: Path) -> None:
        """See Policy. The weights are folders of Transformers or peft (see tuning), the optimiser is safetensors."""
        known = self.tuning.save(folder, self.chat.tokenizer)
        save_file(self._adam.tensors(), folder / "optimiser.safetensors")
        meta = {"kind": KIND, "format": FORMAT, "reference": self.tuning.frozen, **known}
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """See Policy. The model is the one saved, whatever the settings name; an adapter is for the one they name.

        A checkpoint of another engine can have its optimiser elsewhere: it is to play, not to go on with here.
        """
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} has no readable {META}: is it a checkpoint of a causal-lm policy?") from error
        if not isinstance(meta, dict) or (meta.get("kind"), meta.get("format")) != (KIND, FORMAT):
            raise RunError(f"{folder / META} is not of a causal-lm policy of format {FORMAT}: {meta}")
        try:
            self.tuning.check(folder, meta)
            if base := self.tuning.base(folder):
                self._install(*read_pretrained(str(base), self._settings, self._device))
            self.tuning.restore(folder, meta["reference"])
            self._adam = Adam(self.model, self._rate, self._optim.max_grad_norm)
            if meta.get("optimiser", True):
                self._adam.restore(load_file(folder / "optimiser.safetensors"))
        except (ConfigError, OSError, ValueError, KeyError, SafetensorError) as error:
            raise RunError(f"checkpoint {folder} is damaged: {error}") from error
