"""How well an embedder's gates separate related keys from unrelated ones; prints one JSON object.

What `d2skill calibrate` shows, for the gates in use where there are any.

    python benchmarks/gate.py --env houses
    python benchmarks/gate.py --env alfworld --data FOLDER --tasks 1200
    python benchmarks/gate.py --kind transformers --model all-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from d2skill.cli.calibrate import EmbedderFlags
from d2skill.config import EnvConfig
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.evaluation.gate_calibration import measure_gates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="houses")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tasks", type=int, default=480)
    for name in ("--kind", "--model", "--url"):
        parser.add_argument(name)
    given = parser.parse_args()
    embedder = make_embedder(EmbedderFlags(given.kind, given.model, given.url).settings("laptop"))
    environment = make_environment(EnvConfig(kind=given.env, data=given.data))
    print(
        json.dumps({"env": given.env, **measure_gates(embedder, environment, "train", given.tasks).record()}, indent=2)
    )


if __name__ == "__main__":
    main()
