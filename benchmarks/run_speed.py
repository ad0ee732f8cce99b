"""Time of the default run: with one process and with several, and beside another version; prints one JSON object.

All variants take turns. An iteration's processor time is that of a long run less that of a short one, over the
iterations between; wall time is that of the long run as a whole, start included. `--peer` is the source folder of
another version, such as a checkout of 0.1.0.

    python benchmarks/run_speed.py --peer ../d2skill-0.1.0/src
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

SHORT = 4


def run(iterations: int, processes: int, source: str, folder: Path) -> tuple[float, float]:
    """Returns seconds of processors and on the wall of one run, that of workers included."""
    command = [sys.executable, "-m", "d2skill", "train", "--out", str(folder), "--train.iterations", str(iterations)]
    if not source:
        command += ["--processes", str(processes)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | ({"PYTHONPATH": source} if source else {})
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", default="", help="source folder of another version")
    given = parser.parse_args()
    variants = {"one process": (1, ""), f"{given.processes} processes": (given.processes, "")}
    if given.peer:
        variants["peer"] = 1, given.peer
    seconds: dict[str, dict[str, list[float]]] = {name: {"iteration": [], "wall": []} for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(given.repeats):
            for name, (processes, source) in variants.items():
                short, _ = run(SHORT, processes, source, Path(folder) / f"{repeat} {name} short")
                long, wall = run(given.iterations, processes, source, Path(folder) / f"{repeat} {name} long")
                seconds[name]["iteration"].append((long - short) / (given.iterations - SHORT))
                seconds[name]["wall"].append(wall)
    found = {name: {what: statistics.median(values) for what, values in own.items()} for name, own in seconds.items()}
    report = {"iterations": given.iterations, "repeats": given.repeats}
    for name, own in found.items():
        report[name] = {
            "processor_seconds_an_iteration": round(own["iteration"], 3),
            "wall_seconds": round(own["wall"], 1),
        }
    one, several = found["one process"], found[f"{given.processes} processes"]
    report["wall_several_over_one"] = round(several["wall"] / one["wall"], 3)
    if given.peer:
        report["iteration_over_peer"] = round(one["iteration"] / found["peer"]["iteration"], 3)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
