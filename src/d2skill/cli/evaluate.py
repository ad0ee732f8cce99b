"""`d2skill evaluate`: plays fixed tasks with a run's policy and prints success rates and differences of arms."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.progress import Progress
from tyro.conf import Positional

from d2skill.cli.output import Output
from d2skill.evaluation.evaluate import evaluate as evaluate_run
from d2skill.trackers.terminal import evaluation_tables
from d2skill.utils.terminal import Terminal
from d2skill.utils.text import counted


def evaluate(
    run: Positional[Path],
    bank: Path | None = None,
    arms: str | None = None,
    panel: Annotated[str | None, tyro.conf.arg(metavar="FILE|SPLIT", aliases=["--split"])] = None,
    tasks: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    temperature: float | None = None,
    workers: int | None = None,
    trajectories: Path | None = None,
    seen_tasks: bool = False,
    model: str | None = None,
    url: str | None = None,
    key_env: str = "OPENAI_API_KEY",
) -> Output:
    """Play tasks with a run's policy and a bank, both frozen, in several arms from the same states and seeds.

    Arms: none (no skills), bank (retrieval as trained), task and step (the skills of one granularity only), shuffled
    (other skills in place of those retrieved, a placebo) and top (no retrieval: those of highest utility everywhere).

    With --model, a model behind an OpenAI-compatible server plays in place of the run's own policy.

    Args:
        run: Run folder, for its last checkpoint, or one of its checkpoints, RUN/checkpoints/000060.
        bank: Another run, or its bank.db, whose skills are shown in place of the run's own.
        arms: Arms to play, such as none,bank,shuffled,task,step,top; without it bank,none.
        panel: The tasks.json of another run, to play its panel, or a split; without one, the run's own panel.
        tasks: Tasks of the split to play, at most; a panel of that size is the same every time.
        seeds: Seeds to sample from: this many from --seed on.
        seed: The first seed of the sampling.
        temperature: Sampling temperature; without one, the run's validation temperature.
        workers: Processes that play; the result does not depend on it.
        trajectories: File to save the trajectories to, for `d2skill play --replay`; a name in .gz is compressed.
        seen_tasks: Play tasks even if skills were written from failures in them, which flatters the skills.
        model: Model of a server that plays instead of the run's policy.
        url: Base URL of that server, such as http://localhost:8000/v1; without one, OpenAI's own.
        key_env: Environment variable with its key; a local server needs none.
    """
    console = Terminal(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        episodes = bar.add_task("Episodes", total=None)
        result = evaluate_run(
            run,
            arms=None if arms is None else [name.strip() for name in arms.split(",") if name.strip()],
            bank=bank,
            panel=panel,
            tasks=tasks,
            seeds=seeds,
            seed=seed,
            temperature=temperature,
            workers=workers,
            seen_tasks=seen_tasks,
            model=model,
            url=url,
            key_env=key_env,
            trajectories=trajectories,
            on_progress=lambda done, total: bar.update(episodes, completed=done, total=total),
        )
    options = {
        "bank": bank,
        "arms": arms,
        "panel": panel,
        "tasks": tasks,
        "seeds": seeds if seeds > 1 else None,
        "seed": seed or None,
        "temperature": temperature,
        "seen-tasks": seen_tasks or None,
        "model": model,
        "url": url,
    }
    return Output({"command": _command(run, options), **result}, partial(_print, result))


def _command(run: Path, options: dict[str, Any]) -> str:
    """Returns the command line of an evaluation, with the options that change its result."""
    words = ["d2skill", "evaluate", str(run)]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)


def _print(result: dict[str, Any]) -> None:
    """Prints the run and the tasks of an evaluation, and its tables."""
    console = Terminal()
    player = f" with {result['model']}" if "model" in result else ""
    first, last = result["seeds"][0], result["seeds"][-1]
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    console.print(
        f"{result['run']} after iteration {result['iteration']}{player} on {result['split']}: "
        f"{counted(result['tasks'], 'task')}, {seeds}, temperature {result['temperature']:g}",
        soft_wrap=True,
    )
    if result["bank"] != result["run"]:
        console.print(f"Skills are those of {result['bank']}.", soft_wrap=True)
    for table in evaluation_tables(result):
        console.print()
        console.print(table)
