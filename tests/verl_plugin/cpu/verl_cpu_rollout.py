"""A server of verl that answers on the CPU, for tests: our generation engine behind verl's interface.

It holds answers to the actions that the prompt lists, so that a model that has learnt nothing yet plays on, and one
that is never admissible, so that some episodes come off better than others. It needs `verl_cpu_platform` first. FSDP on
a CPU is registered here as well: verl knows it for accelerators alone.
"""

import asyncio
import os

import numpy as np
import ray
import torch
import verl.workers.engine.fsdp.transformer_impl as fsdp
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl.workers.engine.base import EngineRegistry
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

from d2skill.config import CausalLMConfig
from d2skill.policies.causal_lm.chat_template import ChatTokenizer
from d2skill.policies.causal_lm.constrained_decoding import ChoiceDecoding
from d2skill.policies.causal_lm.generation import GenerationEngine, Sampling
from d2skill.policies.causal_lm.loading import end_tokens
from d2skill.policies.causal_lm.token_trie import TokenTrie

LISTED = "Admissible actions:"
INADMISSIBLE = "dance"
TOGETHER = 64


def server_name(rank):
    return f"d2skill_cpu_server_{rank}"


class Server:
    """Answers in batches: what is asked while a batch is written waits for the next one."""

    def __init__(self, path, answer_tokens, rank):
        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa").eval()
        tokenizer = AutoTokenizer.from_pretrained(path)
        self.chat = ChatTokenizer(tokenizer, CausalLMConfig(answer="free"), end_tokens(self.model, tokenizer), 1 << 20)
        self.answer_tokens, self.rank = answer_tokens, rank
        self.tokenizer = tokenizer
        self.asked, self.writing = [], None
        self.version, self.count = 0, 0

    async def generate(self, request_id, *, prompt_ids, sampling_params, **_named):
        answer = asyncio.get_running_loop().create_future()
        self.asked.append((tuple(prompt_ids), sampling_params["temperature"], answer))
        if self.writing is None or self.writing.done():
            self.writing = asyncio.create_task(self.write_all())
        return await answer

    async def write_all(self):
        while self.asked:
            await asyncio.sleep(0.01)
            batch, self.asked = self.asked[:TOGETHER], self.asked[TOGETHER:]
            for (*_, answer), tokens in zip(batch, await asyncio.to_thread(self.write, batch), strict=True):
                answer.set_result(tokens)

    def write(self, batch):
        engine = GenerationEngine(self.model, len(batch), Sampling(batch[0][1]))
        states = []
        for place, (prompt, *_) in enumerate(batch):
            self.count += 1
            rng = np.random.default_rng([self.rank, self.count])
            state = ChoiceDecoding(rng, TokenTrie(self.answers(prompt)))
            states.append(state)
            if state.options:
                engine.submit(place, (*prompt, *state.tokens), state)
        left = sum(bool(state.options) for state in states)
        while left:
            for place in engine.run():
                engine.release(place)
                left -= 1
        known = {"global_steps": self.version}
        return [
            TokenOutput(
                token_ids=state.tokens, log_probs=state.log_probs, stop_reason="completed", extra_fields=dict(known)
            )
            for state in states
        ]

    def answers(self, prompt):
        """Returns the tokens of the answers that play an action listed in a prompt."""
        listed = self.tokenizer.decode(prompt, skip_special_tokens=True).rpartition(LISTED)[2].split("\n")
        actions = [line.strip() for line in listed if line.strip() and line.strip() != "assistant"]
        actions.append(INADMISSIBLE)
        written = [self.tokenizer(f"<action>{action}</action>", add_special_tokens=False) for action in actions]
        return [(*answer.input_ids[: self.answer_tokens - 1], self.chat.end_token) for answer in written]

    async def load(self, weights, version):
        unknown = self.model.load_state_dict(weights, strict=False).unexpected_keys
        assert not unknown, unknown
        self.version = version or 0

    async def nothing(self, **_named):
        return True

    sleep = wake_up = abort_all_requests = resume_generation = nothing
    clear_kv_cache = release_kv_cache = resume_kv_cache = nothing


class Replica(RolloutReplica):
    def rollout_worker_use_gpu(self):
        return False

    async def launch_servers(self):
        model = self.model_config
        path = model.path if hasattr(model, "path") else model["path"]
        server = ray.remote(Server).options(name=server_name(self.replica_rank), max_concurrency=1000, num_cpus=0)
        self._server_handle = server.remote(path, self.config.response_length, self.replica_rank)
        self._server_address = f"cpu://{self.replica_rank}"
        await self._server_handle.sleep.remote()
        self.servers = [self._server_handle]


class Weights(BaseRollout):
    """The side of a training worker: hands the weights to the server of its rank."""

    async def resume(self, tags):
        pass

    async def release(self):
        pass

    async def update_weights(self, weights, wire_format="named_tensors", global_steps=None, **_named):
        whole = {name: (w.full_tensor() if hasattr(w, "full_tensor") else w) for name, w in weights}
        server = ray.get_actor(server_name(os.environ.get("RANK", "0")))
        await server.load.remote({name: w.detach().float().cpu().clone() for name, w in whole.items()}, global_steps)


RolloutReplicaRegistry.register("cpu", lambda: Replica)
_ROLLOUT_REGISTRY[("cpu", "async")] = f"{__name__}.Weights"

pinned = fsdp.CPUOffloadPolicy


def unpinned(pin_memory=True):
    """Pinned memory is that of an accelerator."""
    return pinned(pin_memory=pin_memory) if torch.cuda.is_available() else None


fsdp.CPUOffloadPolicy = unpinned
EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device=["cpu"])(
    fsdp.FSDPEngineWithLMHead
)
