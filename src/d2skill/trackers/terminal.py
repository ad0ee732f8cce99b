"""The terminal display of a run: progress while it trains, and tables of results at the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from d2skill.config import Config
from d2skill.types import Skill
from d2skill.utils.foreign_text import shown
from d2skill.utils.text import counted

_SHOWN_SKILLS = 3
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-~=+*#"
_CURVE = 32  # characters at most
_SECONDS_BETWEEN_LINES = 60.0
_HALVES = {"skill half": "rollout/skill_half_success", "baseline half": "rollout/baseline_half_success"}


class LiveDisplay:
    """A tracker for the terminal: a live table, or a line an iteration where output is not a terminal.

    Use it as a context manager, so that the terminal is left tidy whatever happens.

    Args:
        config: Settings of the run.
        console: Terminal to write to.
        folder: Run folder.
        earlier: Metrics of the iterations before a run is resumed.
    """

    def __init__(self, config: Config, console: Console, folder: Path, earlier: Sequence[dict[str, Any]] = ()) -> None:
        self._config = config
        self._console = console
        self._folder = folder
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._first: dict[str, Any] = {}
        self._validated: dict[str, Any] = {}
        self._curves: dict[str, list[float]] = {name: [] for name in _HALVES}
        self._after = earlier[-1]["iteration"] if earlier else None
        self._said = 0.0
        self._preparing = "Preparing ..." if earlier else "Preparing: warm start and validation ..."
        for metrics in earlier:
            self._remember(metrics)

    def __enter__(self) -> LiveDisplay:
        if self._after is not None:
            self._say(f"Going on with {self._folder} after iteration {self._after}.")
        self._say(f"Environment {self._config.env.kind}, run folder {self._folder}")
        if self._live:
            self._live.start()
            self._live.update(self._preparing, refresh=True)
        else:
            self._say(self._preparing)
        return self

    def _say(self, line: str) -> None:
        self._said = monotonic()
        self._console.print(shown(line), soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def imitation_step(self, step: int, steps: int) -> None:
        """See SupportsImitation. Without a terminal it is a line a minute at most."""
        line = f"Preparing: imitation, step {step} of {steps}"
        if self._live:
            self._live.update(line, refresh=True)
        elif monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._say(line)

    def log(self, metrics: dict[str, Any]) -> None:
        """Shows the metrics of one iteration."""
        self._first = self._first or metrics
        self._remember(metrics)
        if self._live:
            self._live.update(self._picture(metrics), refresh=True)
        else:
            self._say("  ".join(f"{name} {value}" for name, value in self._cells(metrics)))

    def _remember(self, metrics: dict[str, Any]) -> None:
        """Adds an iteration to the curves, and keeps the last validation."""
        for name, own in self._curves.items():
            own += [metrics[_HALVES[name]]] if metrics.get(_HALVES[name]) is not None else []
        if "validation/without_skills" in metrics:
            self._validated = metrics

    def _cells(self, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        cells = [("iteration", f"{metrics['iteration']}/{self._config.train.iterations}")]
        if self._config.rollout.with_skills:
            cells.append(("skill half", _percent(metrics.get("rollout/skill_half_success"))))
        cells.append(("baseline half", _percent(metrics.get("rollout/baseline_half_success"))))
        if self._config.rollout.with_skills:
            cells.append(("bank", f"{metrics['bank/task']} task + {metrics['bank/step']} step"))
            cells.append(("mean utility", f"{metrics['bank/mean_utility']:+.3f}"))
        cells.append(("validation", self._validation()))
        cells.append(("elapsed", _clock(metrics["time/seconds"])))
        cells.append(("left", _clock(self._left(metrics))))
        cells.append(("steps a second", self._rate(metrics)))
        return cells

    def _rate(self, metrics: dict[str, Any]) -> str:
        seconds = metrics["time/seconds"] - self._first["time/seconds"]
        return f"{(metrics['env_steps'] - self._first['env_steps']) / seconds:.0f}" if seconds > 0 else "-"

    def _validation(self) -> str:
        seen = self._validated
        without = _percent(seen.get("validation/without_skills"))
        if "validation/with_skills" not in seen:
            return f"{without} (iteration {seen.get('iteration', 0)})"
        return (
            f"{_percent(seen['validation/with_skills'])} with, {without} without skills (iteration {seen['iteration']})"
        )

    def _left(self, metrics: dict[str, Any]) -> float | None:
        """Estimates the seconds left: by iterations, or by environment steps where those end the run sooner."""
        done: int = metrics["iteration"] - self._first["iteration"]
        if done <= 0:
            return None
        pace: float = (metrics["time/seconds"] - self._first["time/seconds"]) / done
        iteration: int = metrics["iteration"]
        left = float(self._config.train.iterations - iteration)
        limit = self._config.train.max_env_steps
        if limit is not None and metrics["env_steps"]:
            steps: int = metrics["env_steps"]
            left = min(left, (limit - steps) * iteration / steps)
        return max(0.0, left * pace)

    def _picture(self, metrics: dict[str, Any]) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, value in self._cells(metrics):
            drawn = _curve(self._curves.get(name, []), self._console)
            table.add_row(shown(name, "dim"), f"{value:<8}{drawn}" if drawn else value)
        bar = ProgressBar(total=self._config.train.iterations, completed=metrics["iteration"], width=48)
        return Group(table, bar)


def result_table(summary: dict[str, Any]) -> Table:
    """Returns a table of success with skills, without, and the paired difference, each with its 95 % interval."""
    validation = summary["validation"]
    table = Table(title="Validation", title_justify="left", show_edge=False, pad_edge=False)
    scored = "score" in validation["without_skills"]
    for column in ("", "success", "95 % interval", "tasks", "steps", *(["score"] if scored else [])):
        table.add_column(column, justify="left" if not column else "right")
    for name, key in (("with skills", "with_skills"), ("without skills", "without_skills")):
        arm = validation[key]
        if arm:
            cells = [name, _percent(arm["success"]), _interval(arm["ci95"]), str(arm["n"]), f"{arm['steps']:.1f}"]
            table.add_row(*cells, *([_percent(arm.get("score"))] if scored else []))
    gap = validation["difference"]
    if gap:
        table.add_row("paired difference", f"{100 * gap['mean']:+.1f}", _interval(gap["ci95"], sign="+"))
    return table


def evaluation_tables(record: dict[str, Any]) -> list[Table]:
    """Returns the tables of an evaluation: arms, differences, scores if there are, and success by type of task."""
    arms, differences, types = record["arms"], record["differences"], record["types"]
    tables = [_arms_table(arms)]
    if differences:
        tables.append(_differences_table(differences))
    if all("score" in arm for arm in arms.values()):
        tables.append(_scores_table(arms, differences))
    if len(types) > 1:
        tables.append(_types_table(types, list(arms)))
    return tables


def _arms_table(arms: dict[str, Any]) -> Table:
    writes = any(arm["generated_tokens"] is not None for arm in arms.values())
    more = ("answer",) if writes else ()
    table = _table("", "success", "95 % interval", "steps", "shown", "prompt", *more, title="Arms")
    for name, arm in arms.items():
        cells = [name, _percent(arm["success"]), _interval(arm["ci95"]), f"{arm['steps']:.1f}"]
        cells += [f"{100 * arm['shown']:.0f} %", f"{arm['prompt_tokens']:.0f}"]
        table.add_row(*cells, *([f"{arm['generated_tokens']:.0f}"] if writes else []))
    return table


def _differences_table(differences: dict[str, Any]) -> Table:
    table = _table("", "success", "95 % interval", "won", "lost", "p", title="Paired differences")
    for name, gap in differences.items():
        found = gap["success"]
        cells = [f"{name} - {gap['to']}", f"{100 * found['mean']:+.1f}", _interval(found["ci95"], sign="+")]
        p = f"{found['p']:.3f}" if found["p"] >= 0.001 else "< 0.001"
        table.add_row(*cells, str(found["wins"]), str(found["losses"]), p)
    return table


def _scores_table(arms: dict[str, Any], differences: dict[str, Any]) -> Table:
    table = _table("", "score", "95 % interval", "difference", "95 % interval", title="Scores")
    for name, arm in arms.items():
        cells = [name, _percent(arm["score"]), _interval(arm["score_ci95"])]
        gap = differences[name]["score"] if name in differences else None
        apart = [f"{100 * gap['mean']:+.1f}", _interval(gap["ci95"], sign="+")] if gap else ["", ""]
        table.add_row(*cells, *apart)
    return table


def _types_table(types: dict[str, Any], arms: Sequence[str]) -> Table:
    table = _table("", "tasks", *arms, title="Success by type of task, %")
    for kind, own in types.items():
        shares = (f"{100 * own[arm]['success']:.1f}" for arm in arms)
        table.add_row(shown(kind or "unknown"), str(own[arms[0]]["n"]), *shares)
    return table


def _table(*columns: str, title: str) -> Table:
    """Returns an empty table; its first column holds names, the others numbers."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    return table


def skills_table(skills: Sequence[Skill]) -> Table | None:
    """Returns a table of the skills of highest and lowest utility; None if no skill was credited yet."""
    credited = sorted((s for s in skills if s.credits), key=lambda s: (-s.utility, s.id))
    if not credited:
        return None
    table = Table(title="Skills of highest and lowest utility", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("utility", "credits", "id", "skill"):
        justify: Any = "right" if column in ("utility", "credits") else "left"
        table.add_column(column, justify=justify, no_wrap=column != "skill")
    top = credited[:_SHOWN_SKILLS]
    bottom = [skill for skill in credited[-_SHOWN_SKILLS:] if skill not in top]
    for skill in (*top, *bottom):
        table.add_row(f"{skill.utility:+.2f}", str(skill.credits), shown(skill.id), shown(skill.text.title))
    return table


def print_summary(
    console: Console,
    summary: dict[str, Any],
    metrics: Sequence[dict[str, Any]],
    skills: Sequence[Skill],
    folder: Path,
) -> None:
    """Prints the end of a run: curves, result, skills, size, folder, and what to do next.

    Args:
        console: Receives the text.
        summary: Content of summary.json, and the skills that are "held" or "flagged".
        metrics: Lines of metrics.jsonl.
        skills: Active skills of the bank.
        folder: Run folder.
    """
    for line in _training_curves(metrics, console):
        console.print(line, highlight=False)
    console.print()
    console.print(result_table(summary))
    table = skills_table(skills)
    if table:
        console.print()
        console.print(table)
    bank, run = summary["bank"], quote(str(folder))
    sizes = [counted(bank["task"], "task skill"), counted(bank["step"], "step skill")]
    did = [counted(summary["iterations"], "iteration"), counted(summary["env_steps"], "environment step")]
    memory = f"{summary['peak_memory_mb']:.0f} MB at most"
    lines = [
        f"Bank: {', '.join(sizes)}. {', '.join(did)}, {_clock(summary['wall_seconds'])}, {memory}.",
        *_suspected(summary),
        f"Everything is in {folder}. Next:",
        f"  d2skill bank list {run}      its skills",
        f"  d2skill evaluate {run}       its skills on more tasks, or beside other skills",
        f"  d2skill play --replay {run}  its episodes, step by step",
        f"  d2skill compare {run} OTHER  its curve beside that of another run",
    ]
    console.print()
    for line in lines:
        console.print(shown(line), soft_wrap=True)


def _suspected(summary: dict[str, Any]) -> list[str]:
    """Returns a line about skills that look like no advice, if there are any."""
    named = {"held back": summary.get("held"), "flagged": summary.get("flagged")}
    told = [
        f"{len(ids)} {name} ({', '.join([*ids][:_SHOWN_SKILLS])}{', ...' * (len(ids) > _SHOWN_SKILLS)})"
        for name, ids in named.items()
        if ids
    ]
    return [f"Skills that read like instructions, not advice: {', '.join(told)}."] if told else []


def _training_curves(metrics: Sequence[dict[str, Any]], console: Console) -> list[str]:
    """Returns a line for each half: its curve of success in training, and the first and last values."""
    lines = []
    for name, key in _HALVES.items():
        found = [line[key] for line in metrics if line.get(key) is not None]
        if found:
            ends = f"{_percent(found[0])} to {_percent(found[-1])}"
            lines.append(f"{name:<14} {_curve(found, console)} {ends}")
    return lines


def _curve(shares: Sequence[float], console: Console) -> str:
    """Returns shares, 0 to 1, as characters of rising height; a long curve as means of equal parts."""
    bars = _ASCII_BARS if console.options.ascii_only else _BARS
    parts = min(len(shares), _CURVE)
    edges = [part * len(shares) // parts for part in range(parts + 1)] if parts else [0]
    means = [sum(shares[low:high]) / (high - low) for low, high in pairwise(edges)]
    return "".join(bars[min(int(mean * len(bars)), len(bars) - 1)] for mean in means)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _interval(ci: Sequence[float], sign: str = "") -> str:
    low, high = (f"{100 * value:{sign}.1f}" for value in ci)
    return f"{low} to {high}"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
