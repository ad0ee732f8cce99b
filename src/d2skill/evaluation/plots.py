"""Plots of runs, by matplotlib (the extra `plot`); the same numbers give the same file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2skill.errors import ConfigError
from d2skill.utils.atomic_files import write_bytes
from d2skill.utils.foreign_text import visible

FORMATS = ("svg", "png", "pdf")
NEEDS_MATPLOTLIB = "a plot needs matplotlib: pip install 'd2skill[plot]'"

_COLOURS = "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9 #000000 #999999".split()  # Okabe and Ito (2008)
_BAND_LABELS = {"interval": ", 95 % interval", "range": ", lowest to highest", "none": ""}


def has_matplotlib() -> bool:
    """Returns True if matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def require_plottable(path: Path) -> None:
    """Raises `ConfigError` if no plot can be written to a file of this name."""
    if path.suffix[1:] not in FORMATS:
        raise ConfigError(f"{path} is no file for a plot: end its name in .{', .'.join(FORMATS)}")
    if not has_matplotlib():
        raise ConfigError(NEEDS_MATPLOTLIB)


def plot_curves(report: Mapping[str, Any], path: Path) -> None:
    """Draws the success of groups of runs (`compare_groups`) against environment steps and against wall time."""
    figure = _figure(11, 4.5)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, label, unit in (
        (axes[0], "by_env_steps", "environment steps in training", 1.0),
        (axes[1], "by_seconds", "wall time, minutes", 60.0),
    ):
        for number, group in enumerate(report["groups"]):
            band, colour = group[key], _COLOURS[number % len(_COLOURS)]
            where, seeds = [place / unit for place in band["where"]], len(group["seeds"])
            legend = f"{_label(group['name'])} ({seeds} seed{'s' * (seeds != 1)}{_BAND_LABELS[band['shows']]})"
            axis.plot(where, _percent(band["mean"]), color=colour, marker=".", label=legend)
            if band["shows"] != "none":
                low, high = _percent(band["low"]), _percent(band["high"])
                axis.fill_between(where, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(_clip_limits(axes[0].get_ylim()))
    axes[0].set_ylabel("success on the panel, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", frameon=False)
    _save(figure, path)


def plot_ablation(report: Mapping[str, Any], path: Path) -> None:
    """Draws the rows of an ablation: a dot with its interval each, a ring for each seed, a line at the full method."""
    rows = [row for row in report["rows"] if row["headline"]]
    figure = _figure(8, 1.4 + 0.4 * len(rows))
    axis = figure.subplots()
    for place, row in enumerate(rows):
        estimate, seeds = row["headline"], [run["headline"] for run in row["runs"]]
        axis.plot(_percent(seeds), [place] * len(seeds), "o", color=_COLOURS[7], fillstyle="none", markersize=5)
        if estimate["ci95"]:
            axis.plot(_percent(estimate["ci95"]), [place, place], color=_COLOURS[0], linewidth=2)
        axis.plot(_percent([estimate["mean"]]), [place], "o", color=_COLOURS[0])
        if row["row"] == "full":
            axis.axvline(100 * estimate["mean"], color=_COLOURS[7], linewidth=1, linestyle=":")
    axis.set_yticks(range(len(rows)), [_label(row["row"]) for row in rows])
    axis.margins(y=0.15)
    axis.invert_yaxis()
    axis.set_xlim(_clip_limits(axis.get_xlim()))
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel(f"success, %: {report['headline']};\ndots and lines: mean over seeds, 95 % interval; rings: seeds")
    _save(figure, path)


def _label(name: str) -> str:
    """Returns a name for a plot: matplotlib reads dollars as mathematics, and leaves out what begins with _."""
    label = visible(name).replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _clip_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """Clips the limits of an axis of percentages; intervals of few seeds reach far beyond 0 and 100."""
    return max(limits[0], -2.0), min(limits[1], 102.0)


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def _save(figure: Any, path: Path) -> None:
    """Writes a figure atomically, without date and random names, so that the file is the same each time."""
    from matplotlib import rc_context

    drawn = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[path.suffix[1:]]
    with rc_context({"svg.hashsalt": "d2skill"}):
        figure.savefig(drawn, format=path.suffix[1:], metadata=metadata, dpi=150)
    write_bytes(path, drawn.getvalue())
