"""The settings of a run: one frozen tree, read from TOML, every field a flag; the docstrings below are `--help`.

Defaults are the laptop run. The published settings are the presets in `presets/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class EndpointConfig(Settings):
    """A model behind an OpenAI-compatible server, on this machine or elsewhere."""

    model: str = ""
    """Name of the model there"""
    url: str | None = None
    """Base URL of the server, such as http://localhost:8000/v1; without one, OpenAI's own"""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key, which is never written anywhere; a local server needs none"""
    timeout: float = Field(60, gt=0)
    """Seconds that a request may take"""
    retries: int = Field(4, ge=0)
    """Times that a request is sent again when the server is busy, fails or hangs up, after longer and longer waits"""
    concurrency: int = Field(8, ge=1, le=256)
    """Requests at a time"""


class HousesConfig(Settings):
    """Generated houses (env.kind houses)."""

    floor_plans: int = Field(12, ge=1)
    """Floor plans that training sees; as many others are kept for the split valid_unseen"""
    games_per_plan: int = Field(40, ge=1)
    """Training games in each floor plan"""
    receptacles: int = Field(24, ge=8, le=40)
    """Receptacles in a room, at most; with alfworld_rooms their mean"""
    distractors: int = Field(14, ge=0, le=60)
    """Objects in a room beside those of the target's type; with alfworld_rooms their mean"""
    spare_targets: int = Field(0, ge=0, le=3)
    """Objects of the target's type that the task does not need: any number up to this (0 to 3 in ALFWorld; mean 1)"""
    habit: float = Field(0.64, ge=0, le=1)
    """How often an object lies in the place it has in its floor plan (0.64 in ALFWorld's scenes)"""
    second_habit: float = Field(0.29, ge=0, le=1)
    """How often in one of two other usual places (0.29 in ALFWorld); otherwise anywhere such objects can lie"""
    alfworld_rooms: bool = False
    """Rooms are sized and filled as in ALFWorld, kitchens most, and some cabinets stand open; else all are alike"""
    alfworld_homes: bool = False
    """Objects lie where ALFWorld has such objects, mostly in the open; otherwise mostly in closed receptacles"""
    alfworld_errands: bool = False
    """Tasks are as common as in ALFWorld, and what is to be cleaned, heated or cooled may start at its destination"""
    shared_spots: float = Field(0, ge=0, le=0.5)
    """Share of receptacles that are reached together with another (0.19 in ALFWorld)"""
    seed: int = 0
    """Seed of the houses themselves, apart from the seed of the run"""

    @model_validator(mode="after")
    def _habits_fit(self) -> HousesConfig:
        if self.habit + self.second_habit > 1:
            raise ValueError(
                f"env.houses.habit {self.habit} and second_habit {self.second_habit} add up to more than 1: lower one"
            )
        return self


class EnvConfig(Settings):
    """What the agent acts in."""

    kind: Annotated[str, tyro.conf.arg(aliases=("--env",))] = "houses"
    """houses, alfworld, package.module:Class, or gymnasium:package.module:Class"""
    data: Annotated[Path | None, tyro.conf.arg(aliases=("--data",))] = None
    """Folder with the data of the environment; alfworld also looks at $ALFWORLD_DATA"""
    max_steps: int = Field(20, ge=1)
    """Steps after which an episode ends without success"""
    train_split: str = "train"
    """Split to train on"""
    validation_split: str = "valid_seen"
    """Split of the fixed validation panel"""
    tasks: Path | None = None
    """The tasks.json of another run, to take its tasks by id; without it the panel is drawn, training has the rest"""
    houses: HousesConfig = HousesConfig()


class PromptConfig(Settings):
    """What a prompt holds."""

    history: int = Field(20, ge=0)
    """L, the number of past (observation, action) pairs in the prompt"""
    max_tokens: int = Field(4096, ge=64)
    """Token budget; over it the oldest history goes first, then the lowest-ranked skills"""


class ScorerConfig(Settings):
    """The scorer policy: a linear model over hashed features of each admissible action."""

    buckets: int = Field(2**18, ge=2**10)
    """Size of the hashed weight vector"""


class CausalLMConfig(Settings):
    """The causal-lm policy: any Hugging Face causal language model."""

    model: str = "tiny"
    """Model id or folder; "tiny" makes a small Qwen2 with random weights and a tokenizer from the environment's text"""
    hidden_size: int = Field(96, ge=16)
    """Width of the tiny model"""
    layers: int = Field(3, ge=1)
    """Layers of the tiny model"""
    heads: int = Field(4, ge=1)
    """Attention heads of the tiny model"""
    answer: Literal["choice", "free"] = "choice"
    """choice: held to the admissible actions by a token trie; free: any text, action in <action> tags"""
    max_new_tokens: int = Field(64, ge=1)
    """Tokens of an answer, at most"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights"""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto (a GPU if there is one)"""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """How attention is computed; auto is flash_attention_2 in bfloat16 on a GPU that has it, else what the model has"""
    generate_batch: int = Field(64, ge=1)
    """Prompts that generate together"""
    microbatch_tokens: int = Field(16384, ge=64)
    """Tokens in one forward pass of an update, at most"""
    gradient_checkpointing: bool = False
    """Compute the inside of each layer again for its gradients instead of keeping it: less memory, more time"""
    lora_rank: int = Field(0, ge=0)
    """Rank of a low-rank adapter, which alone is trained (learning rates are then 10 to 100 times larger); 0 trains all
    weights"""
    lora_alpha: int = Field(32, ge=1)
    """Scale of the adapter: what it adds is multiplied by lora_alpha / lora_rank"""
    lora_targets: str = "all-linear"
    """Layers that get an adapter: all-linear, or names separated by commas, such as q_proj,v_proj"""


class ServedConfig(Settings):
    """The served policy: a model behind an OpenAI-compatible server (needs d2skill[llm]); it does not learn."""

    endpoint: EndpointConfig = EndpointConfig()
    answer_tokens: int = Field(512, ge=16)
    """Tokens of an answer, at most; a model that thinks first needs more"""


PolicyKind = Literal["scorer", "causal-lm", "served"]


class PolicyConfig(Settings):
    """The policy that is trained."""

    kind: Annotated[PolicyKind, tyro.conf.arg(aliases=("--policy",))] = "scorer"
    """scorer (two cores are plenty), causal-lm (a language model; needs d2skill[train]) or served (by a server)"""
    train: bool = True
    """Whether the policy learns; if not, only the bank does, after the warm start"""
    scorer: ScorerConfig = ScorerConfig()
    lm: CausalLMConfig = CausalLMConfig()
    served: ServedConfig = ServedConfig()

    @model_validator(mode="after")
    def _can_learn(self) -> PolicyConfig:
        if self.kind == "served" and self.train:
            raise ValueError(
                "policy.kind served cannot be trained here: add --policy.train false, so that only the bank learns"
            )
        return self


class OptimConfig(Settings):
    """The policy-gradient update (Eq. 6)."""

    learning_rate: float | None = Field(None, gt=0)
    """Adam step size; without one, what suits the policy: 0.01 (scorer), 1e-6 (language model), 2e-5 (its adapter)"""
    clip: float = Field(0.2, gt=0)
    """Clipping range of the probability ratio"""
    kl: float = Field(0.01, ge=0)
    """Weight of the KL term to the reference policy"""
    minibatch_rows: int = Field(128, ge=1)
    """Step rows in one optimiser step"""
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm to which a gradient is cut"""


class WarmStartConfig(Settings):
    """Imitation of the environment's expert before reinforcement learning."""

    tasks: int = Field(200, ge=0)
    """Demonstration tasks, taken from the training split; 0 starts from an untrained policy"""
    epochs: int = Field(2, ge=1)
    """Passes over the demonstrations"""
    learning_rate: float | None = Field(None, gt=0)
    """Adam step size of imitation; without one, 0.02 for the scorer, 1e-5 for a language model, 2e-4 for an adapter"""
    minibatch_rows: int = Field(32, ge=1)
    """Demonstrated decisions in one optimiser step"""
    advised: float = Field(0.5, ge=0, le=1)
    """Share of demonstrations with advice in the prompt"""
    misled: float = Field(0.3, ge=0, le=1)
    """Share of the advice that is about another game, so that advice is not trusted blindly"""


_STEP_SIZES: dict[PolicyKind, tuple[float, float]] = {
    "scorer": (0.01, 0.02),
    "causal-lm": (1e-6, 1e-5),
    "served": (1e-6, 1e-5),
}
_ADAPTER_STEP_SIZES = (2e-5, 2e-4)


def step_sizes(
    kind: PolicyKind, optim: OptimConfig, warm_start: WarmStartConfig, *, adapter: bool = False
) -> tuple[float, float]:
    """Returns the Adam step sizes of training and of imitation: those set, else those that suit the kind of policy."""
    training, imitation = _ADAPTER_STEP_SIZES if adapter else _STEP_SIZES[kind]
    return optim.learning_rate or training, warm_start.learning_rate or imitation


class RolloutConfig(Settings):
    """Paired rollouts."""

    tasks: int = Field(16, ge=1)
    """B, tasks in one iteration"""
    group_size: int = Field(8, ge=1)
    """N, trajectories of each task"""
    with_skills: int = Field(4, ge=0)
    """Members of each group that get skills; the others are the baseline; 0 is plain GRPO"""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature in training"""


class RewardConfig(Settings):
    """Returns of trajectories."""

    success: float = 10.0
    """Return of a solved task"""
    invalid_penalty: float = Field(1.0, ge=0)
    """Taken off for each action that is not admissible"""
    intrinsic: float = Field(1.0, ge=0)
    """λ of Eq. 4: weight of the gain over the baseline half, given to the skill half only"""


class AdvantageConfig(Settings):
    """Advantages (Eq. 5)."""

    normalise: Literal["group", "half", "rows"] = "group"
    """group: over the trajectories of both halves (the paper); half: within each half; rows: over step rows"""


class CreditConfig(Settings):
    """Utilities (Eq. 3)."""

    beta_task: float = Field(0.5, gt=0, le=1)
    """β of task skills"""
    beta_step: float = Field(0.5, gt=0, le=1)
    """β of step skills"""


class BankConfig(Settings):
    """The skill bank."""

    task_capacity: int = Field(300, ge=1)
    """Task skills kept, at most"""
    step_capacity: int = Field(300, ge=1)
    """Step skills kept, at most"""
    protect: int = Field(10, ge=0)
    """T_prot, iterations in which a new skill cannot be evicted"""
    duplicate: float = Field(0.95, gt=0, le=1)
    """A new skill is a near-duplicate, and not added, if key and text are at least this similar to one in the bank"""
    worth: Literal["utility", "posterior"] = "utility"
    """What ranks and evicts: the utility of Eq. 3, or the posterior mean of the signals, shrunk towards the pool's"""
    retire: bool = False
    """Take out skills that are probably worse than nothing, by the 95 % interval of what they brought"""
    retire_after: float = Field(4, ge=1)
    """Iterations of evidence that this takes"""
    trial: float = Field(0, ge=0, le=1)
    """Share of the skill half that tries new skills before all get them; with 0 they are in the bank at once"""
    trial_after: float = Field(2, ge=1)
    """Iterations of evidence that end a trial, at least"""
    trial_iterations: int = Field(20, ge=1)
    """Iterations in which a skill on trial has to show its worth"""
    wait: float = Field(0, ge=0)
    """Seconds to wait for another process that writes the same journal; then, or with 0 at once, that is an error"""
    start: Path | None = None
    """Run folder or journal whose bank the run starts with; without one, an empty bank"""
    seen_tasks: bool = False
    """Start with it even if its evidence is from tasks of the validation panel, which flatters the skills"""
    probe: int = Field(8, ge=0)
    """Decisions an iteration that are weighed again without each skill, to see whether the policy heeds it"""


class RetrievalConfig(Settings):
    """Retrieval (Eq. 8)."""

    k_task: int = Field(3, ge=0)
    """Task skills shown, at most"""
    k_step: int = Field(3, ge=0)
    """Step skills shown, at most"""
    gate: float | None = Field(None, ge=-1, le=1)
    """τ_sim, least similarity; without one, the gates calibrated for the embedder"""
    candidates: int = Field(10, ge=1)
    """m, the most similar skills that are ranked"""
    alpha: float = Field(0.1, ge=0, le=1)
    """α, weight of similarity against utility"""
    eta: float = Field(0.05, ge=0)
    """η, weight of exploration"""


class EmbedderConfig(Settings):
    """Vectors for retrieval keys."""

    kind: Literal["hashed", "transformers", "openai"] = "hashed"
    """hashed: words and word pairs, needs nothing; transformers: an embedding model here; openai: one at a server"""
    dimension: int = Field(512, ge=16)
    """Length of a hashed vector; models have their own"""
    model: str = "Qwen/Qwen3-Embedding-0.6B"
    """Model id or folder (transformers)"""
    prompt: str | None = None
    """What a model gets before each text; without one, its own default, which most have none of"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights (transformers); vectors are float32 always"""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto, a GPU if there is one (transformers)"""
    batch_tokens: int | None = Field(None, ge=64)
    """Tokens in one forward pass (transformers), longer texts excepted; without one, 1024 on a CPU, 16384 on a GPU"""
    endpoint: EndpointConfig = EndpointConfig()
    batch_texts: int = Field(128, ge=1)
    """Texts in one request (openai), at most"""
    cache: str | None = None
    """Folder that keeps a model's vectors by text; without one, that of the user's caches; none turns it off"""
    cache_mb: int = Field(512, ge=1)
    """Megabytes of it for one model, at most; what was not used for longest goes first"""
    task_gate: float | None = Field(None, ge=-1, le=1)
    """τ_sim of task keys; without one, that known for the embedder (`d2skill calibrate` measures it)"""
    step_gate: float | None = Field(None, ge=-1, le=1)
    """τ_sim of step keys; without one, that known for the embedder"""


class ReflectConfig(Settings):
    """Reflection on failures (Eq. 7)."""

    kind: Literal["contrast", "llm", "policy"] = "contrast"
    """contrast: compares a failure with a success, needs no model; llm: asks a model (needs d2skill[llm]); policy: asks
    the policy itself, which has to be one that writes"""
    threshold: float = Field(0.5, ge=0, le=1)
    """τ_ref: groups whose skill half succeeds less often are reflected on"""
    max_groups: int = Field(10, ge=0)
    """R, groups reflected on in one iteration, at most, drawn at random from those that qualify"""
    endpoint: EndpointConfig = EndpointConfig()
    prompt_tokens: int = Field(6000, ge=500)
    """About how many tokens of trajectories llm shows the model; longer ones lose their middle"""
    answer_tokens: int = Field(1000, ge=100)
    """Tokens of an answer to llm, at most; a model that thinks first needs more"""
    max_calls: int | None = Field(None, ge=0)
    """Questions that llm may ask in a run; then, as after the next two, failures are left to contrast"""
    max_tokens: int | None = Field(None, ge=0)
    """Tokens, in and out, that llm may use in a run"""
    max_cost: float | None = Field(None, ge=0)
    """What llm may cost in a run, in the currency of the prices"""
    price_in: float = Field(0, ge=0)
    """Price of a million tokens of questions"""
    price_out: float = Field(0, ge=0)
    """Price of a million tokens of answers"""

    @model_validator(mode="after")
    def _costs_are_known(self) -> ReflectConfig:
        if self.max_cost is not None and not self.price_in and not self.price_out:
            raise ValueError("reflect.max_cost needs reflect.price_in and price_out, the prices of a million tokens")
        return self


class ValidationConfig(Settings):
    """Evaluation on a fixed panel with the bank frozen."""

    every: int = Field(20, ge=1)
    """V, iterations between evaluations; eviction follows each of them"""
    tasks: int = Field(128, ge=1)
    """Tasks in the panel, the same in every run"""
    temperature: float = Field(0.4, ge=0)
    """Sampling temperature; 0 is greedy"""


class TrainConfig(Settings):
    """Length of the run."""

    iterations: int = Field(160, ge=1)
    """Iterations"""
    max_env_steps: int | None = Field(None, ge=1)
    """Stops after the iteration that reaches this many environment steps in training"""
    checkpoint_every: int = Field(20, ge=1)
    """Iterations between checkpoints, from which `resume` goes on"""
    keep_rollouts: bool = True
    """Keep all episodes of training in the run folder, for `play --replay RUN --iteration N` and `bank show`"""


class Config(Settings):
    """Train a policy together with its skill bank."""

    seed: int = Field(0, ge=0)
    """Seed of the run; the same seed on the same machine gives the same run"""
    out: Path | None = None
    """Run folder; without one, runs/ENV-DATE-TIME"""
    env: EnvConfig = EnvConfig()
    policy: PolicyConfig = PolicyConfig()
    train: TrainConfig = TrainConfig()
    rollout: RolloutConfig = RolloutConfig()
    prompt: PromptConfig = PromptConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    optim: OptimConfig = OptimConfig()
    reward: RewardConfig = RewardConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    bank: BankConfig = BankConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    credit: CreditConfig = CreditConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    reflect: ReflectConfig = ReflectConfig()
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def _halves_fit(self) -> Config:
        if self.rollout.with_skills > self.rollout.group_size:
            raise ValueError(
                f"rollout.with_skills is {self.rollout.with_skills}, more than rollout.group_size "
                f"{self.rollout.group_size}: half the group is usual"
            )
        if 0 < self.rollout.with_skills == self.rollout.group_size:
            raise ValueError("rollout.with_skills leaves no baseline half: at most rollout.group_size - 1")
        return self

    def resolved(self) -> Config:
        """Returns the settings with what depends on others filled in, as a run records them."""
        adapter = self.policy.kind == "causal-lm" and self.policy.lm.lora_rank > 0
        training, imitation = step_sizes(self.policy.kind, self.optim, self.warm_start, adapter=adapter)
        optim = self.optim.model_copy(update={"learning_rate": training})
        warm_start = self.warm_start.model_copy(update={"learning_rate": imitation})
        return self.model_copy(update={"optim": optim, "warm_start": warm_start})
