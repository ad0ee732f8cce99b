"""Texts, numbers and effects of one skill: bank show."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from d2skill.bank.formats.contents import BankContents
from d2skill.bank.history.diff import describe_status, status_name
from d2skill.bank.history.timeline import (
    Credited,
    EpisodeId,
    Shown,
    SkillUse,
    StatusChanged,
    Timeline,
    skill_timeline,
    skill_use,
    training_use,
)
from d2skill.bank.journal import GONE, BankState, Tally
from d2skill.bank.worth import Influence
from d2skill.cli.bank.open import find_skill, listed, open_journal, read
from d2skill.cli.bank.tables import (
    SkillId,
    format_tally,
    print_rows,
    replay_command,
    say,
    skill_record,
    sparkline,
    written_from,
)
from d2skill.cli.output import Output
from d2skill.knowledge.evidence import by_evidence
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder
from d2skill.types import Skill
from d2skill.utils.foreign_text import command
from d2skill.utils.text import counted

_LATEST = 3  # episodes that are named
_SOURCES = 3  # tasks that are named
_ALTERNATIVES = 8

Rows = list[tuple[str, str]]


def bank_show(run: Positional[Path], id: SkillId, at: int | None = None) -> Output:
    """Show one skill: its text and key, its status, whether it helps, and what it was written from.

    Args:
        run: Run folder, or a bank file.
        id: Id of the skill, such as s12.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    bank = read(run, at)
    skill = find_skill(bank.skills, id, run)
    timeline = skill_timeline(open_journal(run), id, at=at) if bank.state is not None else None
    source = f"{written_from(skill)} {skill.source_task}" if skill.source_task else "brought in, of no named task"
    rows = [
        ("id", f"{skill.id} ({skill.granularity} skill)"),
        ("title", skill.text.title),
        ("principle", skill.text.principle),
        ("when to apply", skill.text.when_to_apply),
        ("key: task", skill.task_text),
        ("key: observation", skill.observation or "-"),
        ("status", describe_status(bank.marks.get(id), skill) or _active(bank.state, timeline)),
        *([("flagged", f"{flagged}, which no advice does")] if (flagged := bank.flagged().get(id)) else []),
        ("utility", f"{skill.utility:+.3f} after {counted(skill.credits, 'credit')}"),
        ("shown", counted(skill.retrievals, "time")),
        ("written", f"in iteration {skill.created}, from {source}"),
    ]
    hints: list[str] = []
    rows += _evidence(bank, skill)
    record: dict[str, Any] = {"skill": skill_record(bank, skill), "evidence": bank.tallies.get(id, Tally())}
    record["flagged"] = flagged or ""
    record |= dict.fromkeys(("alternatives", "repeats", "merged", "notes"), ())
    record |= dict.fromkeys(("utility", "signals", "influence", "training", "validation"))
    record["alternatives"] = [one.id for one in _alternatives(bank, skill)]
    if bank.state is not None and timeline:
        for name in ("repeats", "merged", "notes"):
            record[name] = getattr(bank.state, name).get(id, ())
        record["utility"] = [{"iteration": n, "utility": credited.after} for n, credited in timeline.changes(Credited)]
        record["signals"] = [signal._asdict() for signal in timeline.signals()]
        record["influence"] = bank.state.influence.get(id)
        rows += _repeats(bank.state, id) + _worth(bank.state, timeline) + _influence(bank.state, id)
        rows += [("note", text) for text in bank.state.notes.get(id, ())]
        if run.is_dir():
            use, missing, count = _training_use(RunFolder.open(run), timeline)
            record["training"] = _use_record(use, [episode._asdict() for episode in (*use.won, *use.lost)])
            episodes, hints = _training(RunFolder.open(run), use, missing, count)
            rows += episodes
        hints.append(f"{command('bank', 'blame', run, id)} shows its history, iteration by iteration.")
    if at is None and run.is_dir() and (file := RunFolder.open(run).trajectories).is_file():
        validation = skill_use(trajectories.read(file), id)
        record["validation"] = _use_record(validation, [*validation.won, *validation.lost])
        rows += _validation(run, validation)

    def show() -> None:
        print_rows(rows)
        for hint in hints:
            say(hint)

    return Output(record, show)


def _use_record(use: SkillUse[Any], episodes: list[Any]) -> dict[str, Any]:
    """Returns episodes that were shown a skill as plain data: the first `won` of them were won."""
    wins, played = use.baseline
    return {"won": len(use.won), "episodes": episodes, "without_skills": {"won": wins, "episodes": played}}


def _active(state: BankState | None, timeline: Timeline | None) -> str:
    """Returns the status of an active skill, with the last change of its status and the reason."""
    changes = timeline.changes(StatusChanged) if timeline else []
    if state is None or timeline is None or not changes:
        return "active"
    iteration, change = changes[-1]
    admitted = ", admitted although it was held back" if timeline.skill.id in state.vouched else ""
    return f"active since iteration {iteration}{admitted}{f': {change.reason}' if change.reason else ''}"


def _evidence(bank: BankContents, skill: Skill) -> Rows:
    """Returns the evidence for and against a skill, and its alternatives: the skills of the same key, best first."""
    others = _alternatives(bank, skill)
    if not any(one.supports or one.refutes for one in (skill, *others)):
        return []
    tally = bank.tallies.get(skill.id, Tally())
    rows = [("evidence", f"supported by {_sources(tally.supports)}, contradicted by {_sources(tally.refutes)}")]
    for one in others[:_ALTERNATIVES]:
        status = status_name(bank.status(one))
        marked = "" if status == "active" else f", {status}"
        rows.append(("alternative", f"{one.id} {one.text.title}: {one.text.principle} ({format_tally(one)}{marked})"))
    if len(others) > _ALTERNATIVES:
        rows.append(("", f"{len(others) - _ALTERNATIVES} more"))
    return rows


def _alternatives(bank: BankContents, skill: Skill) -> list[Skill]:
    """Returns the other skills of a skill's key that are in the bank, best first."""
    key = (skill.granularity, skill.task_text, skill.observation)
    others = [
        one
        for one in bank.skills
        if (one.granularity, one.task_text, one.observation) == key and bank.status(one) not in GONE and one != skill
    ]
    return sorted(others, key=by_evidence)


def _sources(sources: Collection[str]) -> str:
    """Returns in words the number of some tasks, or of places in tasks, and a few of them."""
    named = f" ({listed([source.replace('#', ' ') for source in sources], _SOURCES)})" if sources else ""
    noun = "place" if any("#" in source for source in sources) else "task"
    return counted(len(sources), noun) + named


def _repeats(state: BankState, id: str) -> Rows:
    """Returns the other failures from which a skill was written again."""
    tasks = state.repeats.get(id, [])
    if not tasks:
        return []
    times = "once" if len(tasks) == 1 else f"{len(tasks)} times"
    names = list(dict.fromkeys(task or "an unnamed task" for task in tasks))
    return [("", f"written again {times}, from {'a failure' if len(tasks) == 1 else 'failures'} in {listed(names)}")]


def _worth(state: BankState, timeline: Timeline) -> Rows:
    """Returns utility over time, number of signals that helped or harmed, and the mean signal with its interval."""
    id, credits = timeline.skill.id, timeline.changes(Credited)
    signals = [signal.value for signal in timeline.signals()]
    rows = []
    if credits:
        (first, _), (last, _) = credits[0], credits[-1]
        helped, harmed = sum(signal > 0 for signal in signals), sum(signal < 0 for signal in signals)
        chart = sparkline([credited.after for _, credited in credits])
        rows += [
            ("over time", f"{chart} (-1 to +1; iterations {first} to {last})"),
            ("signals", f"helped in {helped} of {len(signals)}, harmed in {harmed}, no difference in the others"),
        ]
    worth = state.worth(id)
    if worth.signals:
        posterior = worth.posterior()
        low, high = posterior.low, posterior.high
        verdict = "probably yes" if low > 0 else "probably harms" if high < 0 else "cannot be told yet"
        rows += [
            ("helps?", f"{verdict}: mean {posterior.mean:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}"),
            ("", f"effective sample of {worth.size:.1f} iterations, the last signal in iteration {worth.last}"),
        ]
    if merged := state.merged.get(id):
        rows.append(("merged into it", f"{', '.join(merged)}, whose signals count here"))
    return rows


def _influence(state: BankState, id: str) -> Rows:
    """Returns the effect of leaving a skill out of prompts, if the bank has probes of any skill."""
    influence = state.influence.get(id, Influence())
    if not state.influence:
        return []
    if not influence.decisions:
        return [("heeded?", "not probed yet")]
    prompts = counted(influence.decisions, "prompt")
    share = f"{influence.changes} ({100 * influence.changes / influence.decisions:.0f} %)"
    by = influence.log_prob / influence.decisions
    likelier = f"{abs(by):.2f} {'lower' if by < 0 else 'higher'} with it" if abs(by) >= 0.005 else "the same without it"
    return [
        ("heeded?", f"left out of {prompts}: another greedy action in {share},"),
        ("", f"log-probability of what was chosen {likelier}, on average"),
    ]


def _training_use(run: RunFolder, timeline: Timeline) -> tuple[SkillUse[EpisodeId], int, int]:
    """Returns the training episodes that showed a skill; of the iterations with some, those not kept, and all."""
    id, kept = timeline.skill.id, {*run.kept_rollouts()}
    shown = sorted({iteration for iteration, _ in timeline.changes(Shown)})
    use = training_use(((n, trajectories.about(run.rollout(n), id)) for n in shown if n in kept), id)
    return use, len({*shown} - kept), len(shown)


def _training(run: RunFolder, use: SkillUse[EpisodeId], missing: int, iterations: int) -> tuple[Rows, list[str]]:
    """Returns the results of the training episodes that showed a skill, and a hint at the command that replays one."""
    latest = sorted((*use.won[:1], *use.lost[:1]), key=lambda episode: -episode.iteration)
    if not latest:
        return [], []
    won, count = len(use.won), len(use.won) + len(use.lost)
    wins, without = use.baseline
    rows = [
        (
            "training",
            f"shown in {counted(count, 'episode')}, won {won}; the same tasks without skills: won {wins} of {without}",
        )
    ]
    if missing:
        rows.append(("", f"{missing} of {counted(iterations, 'iteration')} that showed it not kept"))
    for name, episodes in (("latest won", use.won), ("latest not won", use.lost)):
        named = [f"iteration {n} {task} member {member}" for n, task, member in episodes[:_LATEST]]
        rows.append(("", f"{name}: {', '.join(named) or '-'}"))
    return rows, [f"{replay_command(run.path, latest[0])} shows it in training."]


def _validation(run: Path, use: SkillUse[int]) -> Rows:
    """Returns the results of the episodes of the last validation that showed a skill."""
    won, lost = (", ".join(map(str, n[:4])) + (", ..." if len(n) > 4 else "") for n in (use.won, use.lost))
    played = len(use.won) + len(use.lost)
    if not played:
        return [("validation", "not shown in the last one")]
    return [
        ("validation", f"shown in {played}, won {len(use.won)}; the same tasks without skills: won {use.baseline[0]}"),
        ("", f"numbers of those won: {won or '-'}; not won: {lost or '-'}"),
        ("", f"{command('play', '--replay', run, '--number', (use.won + use.lost)[0])} shows one"),
    ]
