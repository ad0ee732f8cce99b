"""One skill as it is: bank show."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from d2skill.bank import history
from d2skill.bank.history import Story
from d2skill.bank.journal import BankState
from d2skill.bank.worth import Influence
from d2skill.cli.bank.open import find, journal_of, listed, read
from d2skill.cli.bank.tables import print_rows, replay_command, say, sparkline
from d2skill.runs import trajectories
from d2skill.runs.folder import RunFolder

_LATEST = 3  # episodes that are named

Rows = list[tuple[str, str]]


def bank_show(run: Positional[Path], id: Positional[str], at: int | None = None) -> None:
    """Show one skill: what it says, when it is retrieved, what it is worth, where it is from.

    Args:
        run: Run folder, or a bank file.
        id: Id of the skill, such as s12.
        at: Iteration after which to look at the bank; without it, as it is.
    """
    bank = read(run, at)
    skill = find(bank.skills, id, run)
    rows = [
        ("id", f"{skill.id} ({skill.granularity} skill)"),
        ("title", skill.text.title),
        ("principle", skill.text.principle),
        ("when to apply", skill.text.when_to_apply),
        ("key: task", skill.task_text),
        ("key: observation", skill.observation or "-"),
    ]
    numbers = [
        ("utility", f"{skill.utility:+.3f} after {skill.credits} credits"),
        ("shown", f"{skill.retrievals} times"),
        ("written", f"in iteration {skill.created}, from a failure in {skill.evidence or 'an unnamed task'}"),
    ]
    hints = []
    if bank.state is None:
        rows += [("status", history.told(bank.marks.get(id), skill) or "active"), *numbers]
    else:
        told = history.story(journal_of(run), id, at=at)
        rows += [("status", _status(bank.state, told)), *numbers]
        rows += _again(bank.state, id) + _worth(bank.state, told) + _heeded(bank.state, id)
        rows += [("note", text) for text in bank.state.notes.get(id, ())]
        if run.is_dir():
            episodes, one_of_them = _trained(RunFolder.open(run), told)
            rows += episodes
            hints += one_of_them
        hints.append(f"`d2skill bank blame {run} {id}` tells its story, iteration by iteration.")
    if at is None and run.is_dir():
        rows += _played(RunFolder.open(run), id)
    print_rows(rows)
    for hint in hints:
        say(hint)


def _status(state: BankState, told: Story) -> str:
    """Returns what a skill is, since when and why."""
    mark = state.marks.get(told.skill.id)
    if mark or told.skill.evicted is not None:
        return history.told(mark, told.skill)
    since = told.moved()
    reason = f": {since.what.reason}" if since and isinstance(since.what, history.Moved) and since.what.reason else ""
    admitted = ", admitted although it was held back" if told.skill.id in state.vouched else ""
    return f"active since iteration {since.iteration}{admitted}{reason}" if since else "active"


def _again(state: BankState, id: str) -> Rows:
    """Returns in what other failures a skill was written again."""
    tasks = state.again.get(id, [])
    if not tasks:
        return []
    times = "once" if len(tasks) == 1 else f"{len(tasks)} times"
    names = list(dict.fromkeys(task or "an unnamed task" for task in tasks))
    return [("", f"written again {times}, from {'a failure' if len(tasks) == 1 else 'failures'} in {listed(names)}")]


def _worth(state: BankState, told: Story) -> Rows:
    """Returns what the journal says of a skill's worth: its signals, utility over time, and how sure the mean is."""
    id, signals, utilities = told.skill.id, told.signals(), told.utilities()
    rows = []
    if utilities:
        first, last = utilities[0][0], utilities[-1][0]
        helped, harmed = sum(signal > 0 for signal in signals), sum(signal < 0 for signal in signals)
        rows += [
            ("over time", f"{sparkline([value for _, value in utilities])} (-1 to +1; iterations {first} to {last})"),
            ("signals", f"helped in {helped} of {len(signals)}, harmed in {harmed}, no difference in the others"),
        ]
    evidence = state.evidence(id)
    if evidence.signals:
        worth = evidence.posterior()
        verdict = "probably yes" if worth.low > 0 else "probably harms" if worth.high < 0 else "cannot be told yet"
        rows += [
            ("helps?", f"{verdict}: mean {worth.mean:+.2f}, 95 % interval {worth.low:+.2f} to {worth.high:+.2f}"),
            ("", f"from {evidence.size:.1f} iterations of evidence, the last of it in iteration {evidence.last}"),
        ]
    if within := state.merged.get(id):
        rows.append(("merged into it", f"{', '.join(within)}, whose evidence counts here"))
    return rows


def _heeded(state: BankState, id: str) -> Rows:
    """Returns what leaving a skill out of prompts did, if that was ever tried with any."""
    found = state.influence.get(id, Influence())
    if not state.influence:
        return []
    if not found.decisions:
        return [("heeded?", "not probed yet")]
    prompts = f"{found.decisions} prompt{'s' * (found.decisions > 1)}"
    share = f"{found.changes} ({100 * found.changes / found.decisions:.0f} %)"
    by = found.log_prob / found.decisions
    likelier = f"{abs(by):.2f} {'lower' if by < 0 else 'higher'} with it" if abs(by) >= 0.005 else "the same without it"
    return [
        ("heeded?", f"left out of {prompts}: another greedy action in {share},"),
        ("", f"log-probability of what was chosen {likelier}, on average"),
    ]


def _trained(run: RunFolder, told: Story) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns what came of a skill in the training episodes that a run keeps, and the command that shows one."""
    shown, kept = told.shown(), set(run.kept_rollouts())
    played = ((n, trajectories.about(run.rollout(n), told.skill.id)) for n in shown if n in kept)
    found = history.training(played, told.skill.id)
    latest = sorted((*found.won[:1], *found.lost[:1]), key=lambda one: -one.iteration)
    if not latest:
        return [], []
    won, count = len(found.won), len(found.won) + len(found.lost)
    wins, without = found.baseline
    rows = [
        ("training", f"shown in {count} episodes, won {won}; the same tasks without skills: won {wins} of {without}")
    ]
    if missing := len(set(shown) - kept):
        rows.append(("", f"{missing} of the {len(shown)} iterations that showed it are not kept"))
    for name, episodes in (("latest won", found.won), ("latest not won", found.lost)):
        named = [f"iteration {one.iteration} {one.task} member {one.member}" for one in episodes[:_LATEST]]
        rows.append(("", f"{name}: {', '.join(named) or '-'}"))
    return rows, [f"{replay_command(run.path, latest[0])} shows it in training."]


def _played(run: RunFolder, id: str) -> list[tuple[str, str]]:
    """Returns what came of a skill in the trajectories that a run keeps, those of its last validation."""
    if not run.trajectories.is_file():
        return []
    use = history.use(trajectories.read(run.trajectories), id)
    won, lost = (", ".join(map(str, n[:4])) + (", ..." if len(n) > 4 else "") for n in (use.won, use.lost))
    played = len(use.won) + len(use.lost)
    if not played:
        return [("validation", "not shown in the last one")]
    return [
        ("validation", f"shown in {played}, won {len(use.won)}; the same tasks without skills: won {use.baseline[0]}"),
        ("", f"numbers of those won: {won or '-'}; not won: {lost or '-'}"),
        ("", f"`d2skill play --replay {run.path} --number {(use.won + use.lost)[0]}` shows one"),
    ]
