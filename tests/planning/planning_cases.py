"""Settings and models that the tests of planning share."""

from d2skill.config import Config, toml_files
from d2skill.planning.model_shapes import KNOWN, ModelShape

SMALL = ModelShape("small", "here", 100, 8, 16, 2, 4, 2, 2, True)

SEVEN = KNOWN["Qwen/Qwen2.5-7B-Instruct"]
COUNT = 7_615_616_512
HEAD = 152_064 * 3584
LAYER = 233_057_792 + 3584 // 28  # with its share of the last norm
ROW = 5120
VERL = [
    *("plan", "--config", "alfworld-paper", "--engine", "verl", "--bank.probe", "0"),
    "--policy.lm.gradient-checkpointing",
]


def lm(**given) -> Config:
    rest = {name: given.pop(name) for name in list(given) if name in ("prompt", "optim", "rollout", "train", "reflect")}
    return Config.model_validate({"policy": {"kind": "causal-lm", "lm": given}} | rest)


def seven(*, lm=None, kl=0.01, temperature=1.0, **verl) -> Config:
    """The published settings, with gradient checkpointing, on a node of 8 GPUs unless told otherwise."""
    base = toml_files.load("alfworld-paper").model_dump()
    base["policy"]["lm"] |= {"gradient_checkpointing": True, **(lm or {})}
    base["optim"]["kl"], base["rollout"]["temperature"] = kl, temperature
    return Config.model_validate(base | {"engine": "verl", "verl": verl})
