"""How long commands take to start, beside `python -c "import numpy, pydantic"`; prints one JSON object.

Each command is a process of its own; all take turns with the peers, so that what else the machine does falls on all.
Seconds are processor time (user and system, all threads) and wall time, lowest and median; `ratio` is to NumPy and
pydantic. All find their bytecode compiled, as pip leaves it, in a folder that the first round fills. `bank list` and
`bank show` read a run folder whose bank has ten skills. `--source` times the package in another folder, such as the src
of an earlier version, in the same run.

    python benchmarks/start.py
    python benchmarks/start.py --rounds 15 --source ../d2skill-0.1.0/src
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from d2skill.bank.journal import from_records
from d2skill.bank.worth import Worth
from d2skill.config import Config
from d2skill.runs.folder import RunFolder
from d2skill.types import Skill, SkillText

PEER = "import numpy, pydantic"
COMMANDS = (
    *("--help", "--version", "bank list RUN", "bank show RUN t1"),
    *("bank --help", "bank list --help", "evaluate --help", "train --help", "config list"),
)


def make_run(path: Path) -> None:
    """Writes a run folder with settings and a bank of ten skills that have signals, and nothing else."""
    run = RunFolder.create(path)
    run.begin(Config(), {})
    skills = [
        Skill(f"t{n}", "task", SkillText(f"Look {n}", "Look first.", "always"), f"find mug {n}", credits=3, utility=0.1)
        for n in range(1, 11)
    ]
    worth = {skill.id: Worth(3, 9, 1.0, 0.5, 2) for skill in skills}
    from_records(run.bank, "hashed-v2/512", skills, worth)


def seconds(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Runs a process; returns its processor time and wall time."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=environment, check=True)
    wall, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--source", default="", help="folder with another version's package")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        make_run(run)
        here = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(folder) / "bytecode")}
        here.pop("PYTHONDONTWRITEBYTECODE", None)
        there = {**here, "PYTHONPATH": str(Path(given.source).absolute())}
        processes = {
            "numpy, pydantic": (["-c", PEER], here),
            "python": (["-c", "pass"], here),
            "import d2skill": (["-c", "import d2skill"], here),
        }
        for command in COMMANDS:
            words = ["-m", "d2skill", *command.replace("RUN", str(run)).split()]
            processes[f"d2skill {command}"] = (words, here)
            if given.source:
                processes[f"d2skill {command} (--source)"] = (words, there)
        times = {name: [seconds(*process)] for name, process in processes.items()}
        for _ in range(given.rounds):
            for name, process in processes.items():
                times[name].append(seconds(*process))
    found = {}
    for name, rounds in times.items():
        kinds = list(zip(*rounds[1:], strict=True))  # the first one compiles
        found[name] = {
            f"{kind}_{best.__name__}": best(values)
            for kind, values in zip(("processor", "wall"), kinds, strict=True)
            for best in (min, median)
        }
    peer = found["numpy, pydantic"]
    for own in found.values():
        own |= {f"{kind}_ratio": own[kind] / peer[kind] for kind in list(peer) if not kind.endswith("_ratio")}
    rounded = {name: {kind: round(value, 3) for kind, value in own.items()} for name, own in found.items()}
    print(json.dumps({"rounds": given.rounds, "seconds": rounded}, indent=2))


if __name__ == "__main__":
    main()
