"""Settings of policies and of their training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from d2skill.config.base import EndpointConfig, Settings, ShortFlag, refuse_fields
from d2skill.config.parts import POLICY, Kind, Table, require_own_kind


class ScorerConfig(Settings):
    """The scorer policy: a linear model over hashed features of each admissible action."""

    buckets: int = Field(2**18, ge=2**10, le=2**28)
    """Size of the hashed weight vector"""


class CausalLMConfig(Settings):
    """The causal-lm policy: any Hugging Face causal language model."""

    model: str = "tiny"
    """Model id or folder, or the folder of a LoRA adapter, which is merged, or trained on where lora_rank is its rank;
    "tiny" makes a small Qwen2 with random weights and a tokenizer from the environment's text"""
    hidden_size: int = Field(96, ge=16, le=8192)
    """Width of the tiny model"""
    layers: int = Field(3, ge=1, le=256)
    """Layers of the tiny model"""
    heads: int = Field(4, ge=1, le=256)
    """Attention heads of the tiny model"""
    answer: Literal["choice", "free"] = "choice"
    """choice: only admissible actions can be generated (constrained decoding); free: any text, with <action> tags"""
    list_actions: bool = True
    """List the admissible actions in the prompts of answer choice, which generates no others anyway; without, prompts
    are shorter, by more than half in a household"""
    max_new_tokens: int = Field(64, ge=1, le=10**6)
    """Tokens of an answer, at most"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights"""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto (a GPU if there is one)"""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention implementation; auto: flash_attention_2 in bfloat16 on a GPU that has it, else the model's default"""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: only the likeliest tokens with this total probability can be drawn; 1 is off"""
    top_k: int = Field(0, ge=0, le=10**6)
    """Only the k likeliest tokens can be drawn; 0 is off"""
    generate_batch: int | None = Field(None, ge=1, le=10**4)
    """Slots: episodes that are played at a time, each with a KV cache of prompt and answer; the others wait. Without a
    number, as many as fit into memory, at most 64"""
    microbatch_tokens: int | None = Field(None, ge=64, le=10**8)
    """Tokens in one forward pass of an update or of new prompts, at most; without a number, as many as fit into half of
    the machine's memory or a GPU's free memory, at most 16384"""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, more time"""
    lora_rank: int = Field(0, ge=0, le=4096)
    """Rank of a low-rank adapter, which alone is trained (learning rates are then 10 to 100 times larger); 0 trains all
    weights"""
    lora_alpha: int = Field(32, ge=1, le=10**6)
    """Scale of the adapter: its output is multiplied by lora_alpha / lora_rank"""
    lora_targets: str = "all-linear"
    """Layers that get an adapter: all-linear, or names separated by commas, such as q_proj,v_proj"""

    @property
    def slots(self) -> int:
        """Episodes that are played at a time: `generate_batch`, or 64 where nothing was chosen."""
        return self.generate_batch or 64

    @property
    def pass_tokens(self) -> int:
        """Tokens in a forward pass, at most: `microbatch_tokens`, or 16384 where nothing was chosen."""
        return self.microbatch_tokens or 16384


class ServedConfig(Settings):
    """The served policy: a model behind an OpenAI-compatible server (needs d2skill[llm]); it does not learn."""

    endpoint: EndpointConfig = EndpointConfig()
    answer: Literal["choice", "free"] = "free"
    """choice: the server is given the admissible actions as a JSON schema, and answers with one of them; free: any
    text, with <action> tags"""
    answer_tokens: int = Field(512, ge=16, le=10**6)
    """Tokens of an answer, at most; a model that reasons first needs more"""
    price_in: float = Field(0, ge=0, le=10**9)
    """Price of a million tokens of questions"""
    price_out: float = Field(0, ge=0, le=10**9)
    """Price of a million tokens of answers"""

    @model_validator(mode="after")
    def _extra_is_free(self) -> ServedConfig:
        refuse_fields(self.endpoint.extra, ["temperature"], "it is rollout.temperature")
        refuse_fields(self.endpoint.extra, ("seed", "stop", "response_format"), "each decision has its own")
        return self


class PolicyConfig(Settings):
    """The policy that is trained."""

    kind: Annotated[str, Kind(POLICY), ShortFlag("--policy")] = "scorer"
    """scorer (two cores are plenty), causal-lm (a language model; needs d2skill[train]), served (by a server), or
    package.module:Class"""
    settings: Table = Field({})
    """Settings of a policy of your own; also one by one, as in --policy.settings.depth 3"""
    folder: Path | None = None
    """Folder that the module of your own policy lies in, beside the current one; a run records it"""
    train: bool = True
    """Train the policy; if false, only the bank learns, after the warm start"""
    scorer: ScorerConfig = ScorerConfig()
    lm: CausalLMConfig = CausalLMConfig()
    served: ServedConfig = ServedConfig()

    @model_validator(mode="after")
    def _can_learn(self) -> PolicyConfig:
        if self.kind == "served" and self.train:
            raise ValueError(
                "policy.kind served cannot be trained here: add --policy.train false, so that only the bank learns"
            )
        require_own_kind(POLICY, self.kind, self.settings)
        return self


class OptimConfig(Settings):
    """The policy-gradient update (Eq. 6)."""

    learning_rate: float | None = Field(None, gt=0, le=10)
    """Adam step size; without one: 0.01 (scorer), 1e-6 (language model), 2e-5 (adapter)"""
    clip: float = Field(0.2, gt=0, le=10**6)
    """Clipping range of the probability ratio"""
    kl: float = Field(0.01, ge=0, le=10**6)
    """Weight of the KL term to the reference policy"""
    minibatch_rows: int = Field(128, ge=1, le=10**6)
    """Step rows in one optimiser step"""
    max_grad_norm: float = Field(1.0, gt=0, le=10**9)
    """Norm at which gradients are clipped"""


class WarmStartConfig(Settings):
    """Imitation of the environment's expert before reinforcement learning."""

    tasks: int = Field(200, ge=0, le=10**6)
    """Demonstration tasks, taken from the training split; 0 starts from an untrained policy"""
    epochs: int = Field(2, ge=1, le=1000)
    """Passes over the demonstrations"""
    learning_rate: float | None = Field(None, gt=0, le=10)
    """Adam step size of imitation; without one, 0.02 for the scorer, 1e-5 for a language model, 2e-4 for an adapter"""
    minibatch_rows: int = Field(32, ge=1, le=10**6)
    """Demonstrated decisions in one optimiser step"""
    advised: float = Field(0.5, ge=0, le=1)
    """Share of demonstrations with advice in the prompt"""
    misled: float = Field(0.3, ge=0, le=1)
    """Share of the advice that is about another game, so that the policy does not trust advice blindly"""
    trajectories: Path | None = None
    """File of saved trajectories, such as a run's trajectories.jsonl.gz; those that were won are imitated, played again
    in the environment, in place of an expert's"""


_STEP_SIZES: dict[str, tuple[float, float]] = {
    "scorer": (0.01, 0.02),
    "causal-lm": (1e-6, 1e-5),
    "served": (1e-6, 1e-5),
}
_ADAPTER_STEP_SIZES = (2e-5, 2e-4)


def step_sizes(
    kind: str, optim: OptimConfig, warm_start: WarmStartConfig, *, adapter: bool = False
) -> tuple[float, float]:
    """Returns the Adam step sizes of training and of imitation.

    Args:
        kind: Kind of policy, which has defaults.
        optim: May set the step size of training.
        warm_start: May set the step size of imitation.
        adapter: True if only an adapter is trained.
    """
    training, imitation = _ADAPTER_STEP_SIZES if adapter else _STEP_SIZES[kind]
    return optim.learning_rate or training, warm_start.learning_rate or imitation
