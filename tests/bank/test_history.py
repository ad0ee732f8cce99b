"""What a journal tells of skills, on small journals made here and on a short real run."""

import re
import shutil
from dataclasses import replace

import pytest
from commands import printing
from hypothesis import given
from hypothesis import strategies as st

from d2skill.bank.history.diff import diff_banks
from d2skill.bank.history.search import count_hits, search_by_meaning, search_by_words
from d2skill.bank.history.statistics import bank_statistics, journal_statistics
from d2skill.bank.history.timeline import (
    Credited,
    EpisodeId,
    Inserted,
    Noted,
    Refuted,
    Revised,
    Rewound,
    Shown,
    SkillUse,
    StatusChanged,
    Supported,
    skill_timeline,
    skill_use,
    training_use,
)
from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import (
    BankState,
    Change,
    Credit,
    Insert,
    Journal,
    JournalWriter,
    Mark,
    Note,
    Refute,
    Retrieve,
    Revise,
    Rewind,
    Support,
    Tally,
    from_records,
    source_task,
)
from d2skill.cli.bank.tables import sparkline
from d2skill.cli.main import find_command, main
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import BankError, RunError
from d2skill.runs.folder import RunFolder
from d2skill.runs.trajectories import Saved, SavedTurn, read
from d2skill.types import Skill, SkillText, Task

bank_blame, bank_diff, bank_note, bank_undo, bank_list, bank_search, bank_show, bank_stats = (
    printing(find_command(f"bank {verb}")) for verb in "blame diff note undo list search show stats".split()
)
BETA = {"task": 0.5, "step": 0.5}
ORIGIN = {
    "reflector": "contrast reflector",
    "policy": "after 1 updates",
    "trajectories": "train/10#7 train/1#3",
    "successes": "train/1#5 train/10#0",
}


def skill(id, title="Look", **values):
    granularity = "task" if id[0] == "t" else "step"
    text = SkillText(title, f"{title} around.", "always")
    return Skill(id, granularity, text, **{"task_text": "cool an apple", "source_task": "train/1", **values})


@pytest.fixture
def path(tmp_path):
    """A journal in which t1 lives, s1 is retired, and t2 was undone and written anew as another skill."""
    path = tmp_path / "bank.db"
    with JournalWriter.create(path, "hashed/8") as writer:
        writer.append(Insert((skill("t1", "Open the fridge"), skill("s1", "Wait")), 1, ORIGIN))  # 1
        writer.append(Retrieve({"t1": 3, "s1": 1}, 2), Retrieve({"t1": 2}, 2))  # 2, 3
        writer.append(Credit({"t1": [1.0, 0.0], "s1": [-1.0]}, BETA, 2))  # 4
        writer.append(Insert((skill("t2", "First life", source_task="train/8"),), 2))  # 5
        writer.append(Credit({"t1": [-1.0], "t2": [1.0]}, BETA, 3))  # 6
        writer.append(Rewind(4, 3))  # 7
        writer.append(Credit({"t1": [1.0]}, BETA, 3))  # 8
        writer.append(Change("retired", ("s1",), 3, "worse than nothing"))  # 9
        writer.append(Insert((skill("t2", "Second life", source_task="train/9"),), 4))  # 10
        writer.append(Note("t1", "tried by hand", 4))  # 11
    return path


def utilities(timeline):
    return [(iteration, credited.after) for iteration, credited in timeline.changes(Credited)]


def values(timeline):
    return [signal.value for signal in timeline.signals()]


def shown_in(timeline):
    return sorted({iteration for iteration, _ in timeline.changes(Shown)})


def test_a_timeline_is_what_counts_in_order(path):
    told = skill_timeline(Journal(path), "t1")
    written = Inserted(skill("t1", "Open the fridge"), ORIGIN, failure=3, success=5)
    u = 0.75 * 0.5
    assert [(e.number, e.iteration, e.change) for e in told.entries] == [
        (1, 1, written),
        (2, 2, Shown(3)),
        (3, 2, Shown(2)),
        (4, 2, Credited((1.0, 0.0), 0.0, u)),
        (8, 3, Credited((1.0,), u, (u + 1) / 2)),
        (11, 4, Noted("tried by hand")),
    ]
    assert not any(e.undone for e in told.entries)
    assert told.skill in Journal(path).replay().skills()
    assert utilities(told) == [(2, u), (3, (u + 1) / 2)]
    assert values(told) == [1.0, 0.0, 1.0]
    assert skill_timeline(Journal(path), "s1").entries[-1].change == StatusChanged("retired", "worse than nothing", "")


def test_a_timeline_up_to_an_iteration(path):
    told = skill_timeline(Journal(path), "t1", at=2)
    assert [e.number for e in told.entries] == [1, 2, 3, 4]
    assert (told.skill.utility, told.skill.credits, told.skill.retrievals) == (0.375, 2, 5)


def test_what_was_undone_is_told_on_demand_and_marked(path):
    told = skill_timeline(Journal(path), "t1", rewound=True)
    assert [(e.number, e.undone) for e in told.entries] == [
        *((n, False) for n in (1, 2, 3, 4)),
        (6, True),
        *((n, False) for n in (7, 8, 11)),
    ]
    assert told.entries[4].change == Credited((-1.0,), 0.375, -0.3125)
    assert told.entries[5].change == Rewound(4)
    plain = skill_timeline(Journal(path), "t1")
    assert (told.skill, utilities(told), told.signals()) == (plain.skill, utilities(plain), plain.signals())


def test_a_skill_can_have_two_lives(path):
    told = skill_timeline(Journal(path), "t2", rewound=True)
    lives = [(e.change.skill.text.title, e.undone) for e in told.entries if isinstance(e.change, Inserted)]
    assert lives == [("First life", True), ("Second life", False)]
    assert told.skill.text.title == "Second life" and told.skill.credits == 0


def test_an_undo_that_was_undone(path):
    with JournalWriter(path) as writer:
        writer.append(Rewind(6, 4))
    told = skill_timeline(Journal(path), "t1", rewound=True)
    assert [e.number for e in told.entries if not e.undone] == [1, 2, 3, 4, 6, 7, 12]
    assert told.skill == skill_timeline(Journal(path), "t1").skill
    assert told.skill.utility == -0.3125


def test_a_skill_that_never_was(path):
    with pytest.raises(BankError, match=r"no skill 't7'.*--rewound"):
        skill_timeline(Journal(path), "t7")
    with pytest.raises(BankError, match="no skill 't7'"):
        skill_timeline(Journal(path), "t7", rewound=True)


PROCEDURE = SkillText("cool {thing}", "Take {thing}, then cool {thing} with fridge.", "always")


@pytest.fixture
def counted(tmp_path):
    """A journal in which t1 and its alternatives t2 (better) and t3 (on trial) have evidence, and t4 is another's."""
    path = tmp_path / "counted.db"
    with JournalWriter.create(path, "hashed/8") as writer:
        skills = [skill("t1", "One"), skill("t2", "Two"), skill("t3", "Three"), skill("t4", "Four", task_text="else")]
        writer.append(Insert(tuple(skills), 0))  # 1
        writer.append(Support({"t1": ["train/1"], "t2": ["train/2", "train/3"], "t4": ["train/1"]}, 0))  # 2
        writer.append(Change("trial", ("t3",), 0), Refute({"t1": ["train/7"]}, 1))  # 3, 4
        writer.append(Revise({"t1": PROCEDURE}, 1), Support({"t1": ["train/1", "train/4"]}, 2))  # 5, 6
        writer.append(Support({"t1": ["train/8"]}, 3), Rewind(6, 3))  # 7, 8
    return path


def test_a_timeline_has_evidence_and_revisions(counted):
    told = skill_timeline(Journal(counted), "t1")
    assert [e.change for e in told.entries[1:]] == [
        Supported(("train/1",)),
        Refuted(("train/7",)),
        Revised(skill("t1", "One").text, PROCEDURE),
        Supported(("train/1", "train/4")),
    ]
    assert told.skill == Journal(counted).replay().skill(0)
    assert (told.skill.supports, told.skill.refutes) == (2, 1)
    undone = skill_timeline(Journal(counted), "t1", rewound=True)
    assert undone.skill == told.skill and [e.undone for e in undone.entries[-2:]] == [True, False]


def test_a_timeline_goes_on_from_evidence_that_was_taken_over(tmp_path):
    path = tmp_path / "bank.db"
    tally = Tally({"train/1": 2, "train/2": 1}, {"train/3": 1})
    from_records(path, "hashed/8", [skill("t1")], tallies={"t1": tally})
    with JournalWriter(path) as writer:
        writer.append(Support({"t1": ["train/2", "train/9"]}, 1), Refute({"t1": ["train/3"]}, 1))
    told = skill_timeline(Journal(path), "t1")
    assert told.skill == Journal(path).replay().skill(0) == skill("t1", supports=3, refutes=1)


def test_blame_shows_evidence_with_its_sources(counted, capsys):
    bank_blame(counted, "t1")
    said = " ".join(capsys.readouterr().out.split())
    assert "from trajectories of train/1: cool an apple" in said
    assert "written; supported by train/1" in said and "contradicted by train/7; revised: was 'One'," in said
    assert "supported by train/1, train/4" in said and "train/8" not in said


def test_show_has_the_tally_and_the_alternatives_best_first(counted, tmp_path, capsys):
    bank_show(counted, "t1")
    said = " ".join(capsys.readouterr().out.split())
    assert "supported by 2 tasks (train/1, train/4), contradicted by 1 task (train/7)" in said
    assert "alternative t2 Two: Two around. (2/0) alternative t3 Three: Three around. (0/0, on trial)" in said
    assert "t4" not in said
    bank_show(counted, "t3")
    said = " ".join(capsys.readouterr().out.split())
    assert "supported by 0 tasks, contradicted by 0 tasks alternative t2" in said and "(2/0) alternative t1" in said
    with JournalWriter(counted) as writer:
        more = tuple(skill(f"t{n}", "More") for n in range(10, 18))
        writer.append(Insert(more, 4), Support({"t4": [f"train/{n}" for n in range(9)]}, 4))
    bank_show(counted, "t4")
    said = " ".join(capsys.readouterr().out.split())
    assert "supported by 9 tasks (train/1, train/0, train/2 and 6 more), contradicted by 0 tasks" in said
    assert "alternative" not in said
    bank_show(counted, "t1")
    assert said.count("alternative") == 0 and "2 more" in capsys.readouterr().out


def test_a_bank_of_notes_is_shown_as_ever(path, capsys):
    with JournalWriter(path) as writer:
        writer.append(Insert((skill("t5"),), 5))
    bank_show(path, "t1")
    bank_list(path)
    bank_stats(path)
    bank_diff(path, from_=4)
    said = capsys.readouterr().out
    assert "evidence" not in said and "alternative" not in said and "from a failure in train/1" in said


def test_list_has_a_column_for_evidence_and_sorts_by_it(counted, capsys):
    bank_list(counted, sort="evidence")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["id", "evidence", "utility"]
    assert [line.split()[:2] for line in lines[2:5]] == [["t2", "2/0"], ["t1", "2/1"], ["t4", "1/0"]]


def test_stats_and_diff_know_evidence_and_revisions(counted, capsys):
    state = Journal(counted).replay()
    pools = bank_statistics(state, 2).pools
    assert (pools["task"].with_evidence, pools["step"].with_evidence) == (3, 0)
    bank_stats(counted)
    said = " ".join(capsys.readouterr().out.split())
    assert "with evidence 3 (100%) -" in said and "written from trajectories of 1 task," in said
    bank_diff(counted, from_=0)
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said[-5:] == [
        "1 with other evidence:",
        "t1 1/0 → 2/1 cool {thing}",
        "1 with other texts:",
        "t1 was 'One' cool {thing}",
        "2 stayed as before.",
    ]


def test_differences_by_id():
    before = [skill("t1"), skill("t2"), skill("t3"), skill("t4", evicted=1)]
    after = [
        replace(before[0], utility=-0.5, credits=3),
        replace(before[1], evicted=2),
        before[2],
        before[3],
        skill("t5"),
        skill("t6", evicted=3),
    ]
    found = diff_banks(before, after, marks_after={"t2": Mark("retired", 2, "worse than nothing")})
    assert [s.id for s in found.added] == ["t5"]
    assert [(one.skill.id, one.status) for one in found.removed] == [
        ("t2", "retired in iteration 2: worse than nothing")
    ]
    assert [(one.after.id, one.utility_change, one.signals) for one in found.changed] == [("t1", -0.5, 3)]
    assert (found.unchanged, found.transient) == (1, 1)


def test_skills_on_trial_and_held_back_are_not_active():
    before = [skill("t1"), skill("t2"), skill("t3")]
    after = [*before, skill("t4"), skill("t5"), skill("t6", evicted=3)]
    trial, held = Mark("trial", 3), Mark("held", 2, "by hand")
    marks = {"t2": held, "t4": trial, "t5": Mark("held", 3, "it urges"), "t6": Mark("retired", 3)}
    found = diff_banks(before, after, {"t1": trial, "t2": trial}, marks)
    assert [s.id for s in found.added] == ["t1"], "it was on trial before"
    assert found.removed == () and found.unchanged == 1 and found.transient == 1
    aside = [(one.skill.id, one.status) for one in found.inactive]
    assert aside == [("t4", "on trial since iteration 3"), ("t5", "held back since iteration 3: it urges")]
    found = diff_banks(before, after, marks_after=marks)
    assert [(one.skill.id, one.status) for one in found.removed] == [("t2", "held back since iteration 2: by hand")]


def test_moves_come_with_the_furthest_first_in_either_direction():
    before = [skill(f"t{n}") for n in range(3)]
    after = [replace(s, utility=u) for s, u in zip(before, (0.1, -0.9, 0.5), strict=True)]
    assert [one.after.id for one in diff_banks(before, after).changed] == ["t1", "t2", "t0"]


def test_banks_of_different_runs_are_compared_by_what_skills_say():
    ours, theirs = [skill("t1", "A"), skill("t2", "B")], [skill("t1", "B", utility=0.25), skill("t9", "C")]
    found = diff_banks(ours, theirs, by_id=False)
    assert [s.text.title for s in found.added] == ["C"]
    assert [(one.skill.text.title, one.status) for one in found.removed] == [("A", "")]
    assert [(one.before.id, one.after.id, one.utility_change) for one in found.changed] == [("t2", "t1", 0.25)]


def test_a_bank_in_numbers(path):
    found = bank_statistics(Journal(path).replay(), 4)
    task, step = found.pools["task"], found.pools["step"]
    assert task.statuses == {"active": 2} and step.statuses == {"retired": 1}
    assert task.utility == (0.0, pytest.approx(0.6875 / 4), 0.34375, pytest.approx(0.6875 * 3 / 4), 0.6875)
    assert task.credits[4] == 3 and task.retrievals[4] == 5 and task.age == (4,) * 5
    assert (task.above, task.below, task.never_shown, task.never_credited) == (1, 0, 1, 1)
    assert step.active == 0 and step.utility is None
    assert found.source_tasks == (("train/1", 1), ("train/9", 1)) and found.tasks == 2
    with JournalWriter(path) as writer:
        writer.append(Change("trial", ("t2",), 4))
    task = bank_statistics(Journal(path).replay(), 4).pools["task"]
    assert task.statuses == {"active": 1, "trial": 1} and task.credits == (3,) * 5 and task.never_shown == 0
    kept = journal_statistics(Journal(path))
    assert (kept.events, kept.undone, kept.rewinds, kept.snapshots) == (12, 2, 1, 0)
    assert kept.bytes >= path.stat().st_size


def test_an_empty_bank_in_numbers():
    found = bank_statistics(BankState(), 0)
    assert found.source_tasks == () and all(pool.active == 0 for pool in found.pools.values())


def state_of(*skills):
    state = BankState()
    state.apply(Insert(skills, 0))
    return state


def words_of(state, query):
    rows, hits = search_by_words(state, state.rows(None, "active"), count_hits(state, query))
    return [(state.skill(row).id, count) for row, count in zip(rows.tolist(), hits.tolist(), strict=True)]


def test_search_takes_all_words_in_whatever_case_and_the_most_hits_first():
    step = skill("s1", "Shelf", observation="a pan")
    state = state_of(skill("t1", "Open the FRIDGE"), skill("t2", "Fridge, fridges"), step)
    assert words_of(state, "fridge") == [("t2", 4), ("t1", 2)]
    assert [id for id, _ in words_of(state, "APPLE pan")] == ["s1"]
    assert words_of(state, "fridge pan") == [] == words_of(state, "ridge")
    assert words_of(state, "?!") == []


TEXTS = st.text(st.sampled_from("aAbB_1 .\nßéİKΣ\u2028\ud800"), max_size=9)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5), TEXTS)
def test_hits_are_those_of_words_cut_one_by_one(texts, query):
    skills = [skill(f"s{number}", title, observation=seen) for number, (title, seen) in enumerate(texts)]
    expected = []
    for one in skills:
        parts = (one.text.title, one.text.principle, one.text.when_to_apply, one.task_text, one.observation)
        words = [word for part in parts for word in re.findall(r"\w+", part.casefold())]
        wanted = dict.fromkeys(re.findall(r"\w+", query.casefold()))
        expected.append([sum(word.startswith(start) for word in words) for start in wanted])
    assert count_hits(state_of(*skills), query).T.tolist() == expected


def test_search_by_meaning_comes_with_the_nearest_first():
    state = state_of(skill("t1", "Open the fridge"), skill("t2", "Go to the shelf"))
    query, index = "the refridgerator shelf", KeyIndex(state, HashedEmbedder(256))
    rows, (near, far) = search_by_meaning(state, index, query, count_hits(state, query))
    assert rows.tolist() == [1, 0] and 1.0 >= near > far
    empty = BankState()
    rows, _ = search_by_meaning(empty, KeyIndex(empty, HashedEmbedder(256)), query, count_hits(empty, query))
    assert rows.tolist() == []


def test_of_many_skills_those_with_near_keys_and_those_with_the_words_are_compared(monkeypatch):
    far = [skill(f"s{number}", f"Thing {number}", task_text=f"errand {number}") for number in range(40)]
    state = state_of(*far, skill("t1", "Open the fridge"), skill("t2", "Wait", task_text="cool the fridge"))
    monkeypatch.setattr("d2skill.bank.history.search._ALL", 10)
    monkeypatch.setattr("d2skill.bank.history.search._COMPARED", 2)
    query = "unheard of fridge"
    embedder = HashedEmbedder(256)
    embedded, embed = [], embedder.embed
    embedder.embed = lambda texts: embedded.extend(texts) or embed(texts)
    rows, _ = search_by_meaning(state, KeyIndex(state, embedder), query, count_hits(state, query))
    assert rows[:2].tolist() == [41, 40] and len(rows) <= 6
    rows, _ = search_by_meaning(state, KeyIndex(state, embedder), query, count_hits(state, query), "step")
    assert rows.max() < 40
    assert sum(text.startswith("Thing") for text in embedded) <= 8


def played(task, arm, success, *skills):
    return Saved(Task(task, "", "x"), arm, 0, success, (SavedTurn("o", "a", skills=skills),), "")


def test_use_is_held_against_the_same_tasks_without_skills():
    saved = [
        played("1", "skills", True, "t1"),
        played("1", "none", False),
        played("2", "skills", False, "t1", "s1"),
        played("2", "none", True),
        played("3", "skills", True, "s2"),
        played("3", "none", True),
    ]
    assert skill_use(saved, "t1") == SkillUse(won=(1,), lost=(3,), baseline=(1, 2))
    assert skill_use(saved, "t9") == SkillUse((), (), (0, 0))


def test_training_is_told_latest_first_and_held_against_the_same_tasks_and_iterations():
    def episode(task, arm, index, success, *skills):
        return replace(played(task, arm, success, *skills), index=index)

    kept = [
        (2, [episode("a", "skills", 0, True, "t1"), episode("a", "none", 1, False), episode("b", "none", 1, True)]),
        (7, [episode("a", "none", 1, True)]),
        (9, [episode("b", "skills", 0, False, "t1"), episode("b", "none", 1, True)]),
        (
            10,
            [
                episode("c", "skills", 0, True, "t1"),
                episode("c", "skills", 1, True, "s1", "t1"),
                episode("c", "skills", 2, False, "s1"),
                episode("c", "none", 3, True),
                episode("c", "none", 4, False),
            ],
        ),
    ]
    assert training_use(kept, "t1") == SkillUse(
        won=(EpisodeId(10, "c", 0), EpisodeId(10, "c", 1), EpisodeId(2, "a", 0)),
        lost=(EpisodeId(9, "b", 0),),
        baseline=(2, 4),
    )
    assert training_use(kept, "t9") == SkillUse((), (), (0, 0))


def test_a_timeline_knows_in_which_iterations_a_skill_was_shown(path):
    assert shown_in(skill_timeline(Journal(path), "t1")) == [2]
    assert shown_in(skill_timeline(Journal(path), "t1", at=1)) == []
    with JournalWriter(path) as writer:
        writer.append(Retrieve({"t1": 1}, 5), Retrieve({"t1": 1}, 6), Rewind(12, 6), Retrieve({"t1": 1}, 7))
    assert shown_in(skill_timeline(Journal(path), "t1")) == [2, 5, 7]
    assert shown_in(skill_timeline(Journal(path), "t1", rewound=True)) == [2, 5, 7]


def test_sparklines():
    assert sparkline([-1.0, 0.0, 1.0, 5.0]) == "▁▅██"
    assert len(sparkline([0.0] * 100, width=40)) == 40
    assert sparkline([0.0] * 99 + [1.0])[-1] == "█"


# The commands.


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_blame_names_failure_success_and_reflector(path, capsys):
    bank_blame(path, "t1")
    told = said(capsys)
    for part in ("iteration 1, event 1", "train/1, member 3", "member 5", "contrast reflector", "note: tried by hand"):
        assert part in told
    assert "undone" not in told
    bank_blame(path, "t1", rewound=True)
    told = said(capsys)
    assert "(undone)" in told and "taken back to event 4" in told


def test_a_long_timeline_has_a_middle_left_out(tmp_path, capsys):
    with JournalWriter.create(tmp_path / "bank.db", "hashed/8") as writer:
        writer.append(Insert((skill("t1"),), 0), *(Credit({"t1": [0.5]}, BETA, n) for n in range(1, 100)))
    bank_blame(tmp_path / "bank.db", "t1")
    lines = capsys.readouterr().out
    assert "84 more iterations" in lines and len(lines.splitlines()) < 30
    bank_blame(tmp_path / "bank.db", "t1", all=True)
    lines = capsys.readouterr().out
    assert "more iterations" not in lines and len(lines.splitlines()) > 100


def test_show_says_whether_it_helps_and_what_was_noted(path, capsys):
    bank_show(path, "t1")
    shown = said(capsys)
    assert "helped in 2 of 3, harmed in 0" in shown and "tried by hand" in shown and "bank blame" in shown
    assert "▆▇" in shown and "cannot be told yet" in shown
    bank_show(path, "s1")
    assert "retired in iteration 3: worse than nothing" in said(capsys)


def test_undo_and_undoing_it(path, capsys):
    before = Journal(path).replay().dump()
    bank_undo(path, to=2)
    told = said(capsys)
    assert "Undone: 4 events." in told
    assert [s.id for s in Journal(path).replay().skills()] == ["t1", "s1"]
    command = re.search(r"bank undo \S+ --event (\d+)", told)
    bank_undo(path, event=int(command[1]))
    assert "Counting again: 4." in said(capsys)
    assert Journal(path).replay().dump() == before
    bank_undo(path, to=4)
    assert "nothing is undone" in said(capsys)
    bank_undo(path)
    assert Journal(path).head().iteration == 3
    Journal(path).verify()


def test_undo_back_to_nothing(path):
    bank_undo(path, event=0)
    assert Journal(path).replay().skills() == []
    with pytest.raises(BankError, match="--event 0"):
        bank_undo(path)


def test_undo_and_note_wait_for_no_writer(path):
    with JournalWriter(path):
        with pytest.raises(BankError, match=r"this process has .* open for writing already"):
            bank_undo(path, to=1)
        with pytest.raises(BankError, match=r"this process has .* open for writing already"):
            bank_note(path, "t1", "text")


def test_a_note_is_plain_text(path, capsys):
    bank_note(path, "s1", "too\x1b[31m early,\n[bold]really[/bold] \ud800")
    bank_show(path, "s1")
    assert "too [31m early, [bold]really[/bold] ?" in said(capsys)


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (bank_undo, {"to": 9}, "none of iteration 9"),
        (bank_undo, {"to": -1}, "none of iteration -1"),
        (bank_undo, {"event": 99}, "there is no event 99"),
        (bank_undo, {"event": -1}, "there is no event -1"),
        (bank_undo, {"event": 1, "to": 1}, "leave one of them out"),
        (bank_note, {"id": "t7", "text": "x"}, "no skill t7"),
        (bank_note, {"id": "t1", "text": " \n"}, "empty"),
        (bank_stats, {"at": 9}, "none of iteration 9"),
        (bank_blame, {"id": "t7"}, "no skill 't7'"),
        (bank_search, {"text": "..."}, "no word"),
        (bank_search, {"text": "fridge", "at": 9}, "none of iteration 9"),
    ],
)
def test_bad_input_is_told_in_a_sentence_and_changes_nothing(path, command, arguments, words):
    before = Journal(path).head()
    with pytest.raises((BankError, RunError), match=words) as told:
        command(path, **arguments)
    assert "\n" not in str(told.value)
    assert Journal(path).head() == before


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(bank_undo, {}), (bank_note, {"id": "t1", "text": "x"}), (bank_stats, {}), (bank_blame, {"id": "t1"})],
)
def test_history_needs_a_journal(tmp_path, command, arguments):
    (tmp_path / "bank.jsonl").write_text("{}\n")
    with pytest.raises(BankError, match="is no journal"):
        command(tmp_path / "bank.jsonl", **arguments)
    with pytest.raises(RunError, match="does not exist"):
        command(tmp_path / "none.db", **arguments)


def test_diff_of_iterations_and_of_banks(path, tmp_path, capsys):
    bank_diff(path, from_=1, to=3)
    told = said(capsys)
    assert "0 came." in told and "1 left: s1 retired in iteration 3" in told
    assert "+0.000 → +0.688 by 3 credits" in told
    with JournalWriter.create(tmp_path / "other.db", "hashed/8") as writer:
        writer.append(Insert((skill("t4", "Open the fridge"), *(skill(f"s{n}", f"N{n}") for n in range(9))), 1))
    bank_diff(path, tmp_path / "other.db", limit=2)
    told = said(capsys)
    assert "9 came" in told and "7 more" in told and "1 left: t2 not in the other bank" in told and "1 moved" in told
    with pytest.raises(BankError, match="--from"):
        bank_diff(path)
    with pytest.raises(BankError, match="none of iteration 50"):
        bank_diff(path, from_=50)


def test_search_falls_back_on_what_is_alike(path, capsys):
    bank_search(path, "fridge open")
    assert "t1" in said(capsys)
    bank_search(path, "second lives")
    assert "Alike, by the embedder" in said(capsys)
    bank_search(path, "xyzzy")
    assert "none is like them" in said(capsys)


def trained_run(folder, skills):
    small = (
        "--env.houses.floor-plans 2 --env.houses.games-per-plan 10 --env.houses.receptacles 10 --rollout.tasks 3 "
        "--rollout.group-size 4 --rollout.with-skills 2 --warm-start.tasks 12 --validation.tasks 10"
    )
    main(["train", *small.split(), "--skills", skills, "--train.iterations", "4", "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of four iterations with the skills of the paper."""
    return trained_run(tmp_path_factory.mktemp("runs") / "small", "paper")


def test_a_run_with_consolidated_skills_tells_their_evidence(tmp_path, capsys):
    run = trained_run(tmp_path / "run", "consolidated")
    journal = Journal(run / "bank.db")
    skills = journal.replay().skills()
    for skill in skills:
        told = skill_timeline(journal, skill.id)
        assert told.skill == skill
        tasks = {task for _, supported in told.changes(Supported) for task in supported.tasks}
        assert len(tasks) == skill.supports > 0 and skill.source_task in map(source_task, tasks)
    capsys.readouterr()
    most = max(skills, key=lambda skill: skill.supports)
    bank_show(run, most.id)
    shown = said(capsys)
    assert f"supported by {most.supports} task" in shown and f"from trajectories of {most.source_task}" in shown


def test_a_run_tells_which_failure_a_skill_is_from(run, capsys):
    journal = Journal(run / "bank.db")
    for skill in journal.replay().skills():
        told = skill_timeline(journal, skill.id)
        assert told.skill == skill
        written = told.entries[0].change
        assert written.origin["reflector"] == "contrast reflector"
        assert written.origin["policy"] == f"after {skill.created} updates"
        assert written.failure in range(4)
        assert len(told.signals()) == skill.credits
    bank_blame(run, skill.id)
    assert f"a failure in {skill.source_task}, member {written.failure} of its group" in said(capsys)


def test_a_run_shows_what_came_of_a_skill_at_the_last_validation(run, capsys):
    capsys.readouterr()
    for skill in Journal(run / "bank.db").replay().skills():
        bank_show(run, skill.id)
    shown = said(capsys)
    assert "the same tasks without skills: won" in shown
    assert f"d2skill play --replay {run} --number" in shown.replace("- ", "-")


def commands_in(text):
    """The commands that a text names between backquotes, as words."""
    return [found.split()[1:] for found in re.findall(r"`(d2skill play [^`]*)`", text)]


def test_blame_names_the_command_that_shows_failure_and_success(run, capsys):
    capsys.readouterr()
    journal = Journal(run / "bank.db")
    with_success = 0
    for skill in journal.replay().skills():
        written = skill_timeline(journal, skill.id).entries[0].change
        bank_blame(run, skill.id)
        told = capsys.readouterr().out
        [command] = commands_in(told)
        kept = read(RunFolder(run).rollout(skill.created))
        failure, success = (
            next((one for one in kept if (one.task.id, one.index) == (skill.source_task, member)), None)
            for member in (written.failure, written.success)
        )
        assert not failure.success and failure.arm == "skills" and failure.task.text == skill.task_text
        main(command)
        shown = capsys.readouterr().out
        assert f"{skill.source_task}, with skills" in shown and "not won." in shown
        assert f"{len(failure.turns)} > {failure.turns[-1].action}" in shown
        if written.success is None:
            assert told.count("--member") == 1
            continue
        with_success += 1
        assert f"shows the failure, --member {success.index} the success." in told and success.success
    assert with_success


def test_blame_names_no_command_for_what_is_not_kept(run, tmp_path, capsys):
    skill = Journal(run / "bank.db").replay().skills()[0]
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    RunFolder(copy).rollout(skill.created).unlink()
    capsys.readouterr()
    bank_blame(copy, skill.id)
    bank_blame(run / "bank.db", skill.id)
    assert "d2skill play" not in capsys.readouterr().out


def trained(run, skill_id, iterations):
    """Won and played with a skill, and without skills in the same groups, from all that a run keeps."""
    counts = {"skills": [0, 0], "none": [0, 0]}
    for iteration in iterations:
        kept = read(RunFolder(run).rollout(iteration))
        tasks = {one.task.id for one in kept if any(skill_id in turn.skills for turn in one.turns)}
        for one in kept:
            if one.task.id in tasks and (one.arm == "none" or any(skill_id in turn.skills for turn in one.turns)):
                counts[one.arm][0] += one.success
                counts[one.arm][1] += 1
    return counts["skills"], counts["none"]


@pytest.mark.parametrize("at", [None, 2])
def test_show_tells_wins_and_losses_in_training_and_how_to_see_one(run, capsys, at):
    capsys.readouterr()
    shown_ones = 0
    for skill in Journal(run / "bank.db").replay(at=at).skills():
        (won, count), (wins, without) = trained(run, skill.id, range(4 if at is None else at + 1))
        bank_show(run, skill.id, at)
        out = capsys.readouterr().out
        told = " ".join(out.split())
        if not count:
            assert "training" not in told and not skill.retrievals
            continue
        shown_ones += 1
        beside = f"the same tasks without skills: won {wins} of {without}"
        assert f"training shown in {count} episodes, won {won}; {beside}" in told
        [command] = [words for words in commands_in(out) if "--iteration" in words]
        iteration, task, member = command[4], command[5], command[7]
        assert f"iteration {iteration} {task} member {member}" in told
        assert len(re.findall(r"iteration \d+ \S+ member \d+", told)) == min(3, won) + min(3, count - won)
        main(command)
        shown = capsys.readouterr().out
        assert f"{task}, with skills" in shown and re.search(rf"skills: .*\b{skill.id}\b", shown)
    assert shown_ones


def test_show_says_how_much_of_training_is_not_kept(run, tmp_path, capsys):
    journal = Journal(run / "bank.db")
    ids = [skill.id for skill in journal.replay().skills()]
    skill_id = max(ids, key=lambda one: len(shown_in(skill_timeline(journal, one))))
    shown = shown_in(skill_timeline(journal, skill_id))
    assert len(shown) > 1
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    RunFolder(copy).rollout(shown[0]).unlink()
    (won, count), _ = trained(copy, skill_id, shown[1:])
    capsys.readouterr()
    bank_show(copy, skill_id)
    told = said(capsys)
    assert f"shown in {count} episodes, won {won};" in told
    assert f"1 of {len(shown)} iterations that showed it not kept" in told
    shutil.rmtree(copy / "rollouts")
    bank_show(copy, skill_id)
    bank_show(run / "bank.db", skill_id)
    assert "training" not in said(capsys)


def test_show_reads_only_what_is_about_the_skill(run, tmp_path, capsys):
    """Iterations that did not show it can be damaged, and so can lines about other tasks."""
    journal = Journal(run / "bank.db")
    ids = [skill.id for skill in journal.replay().skills()]
    skill_id = next(one for one in ids if 0 < len(shown_in(skill_timeline(journal, one))) < 4)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for iteration in set(range(4)) - set(shown_in(skill_timeline(journal, skill_id))):
        RunFolder(copy).rollout(iteration).write_bytes(b"damaged")
    capsys.readouterr()
    bank_show(copy, skill_id)
    bank_show(run, skill_id)
    told = said(capsys).replace(str(copy), str(run))
    assert told.count("training shown in") == 2
    RunFolder(copy).rollout(shown_in(skill_timeline(journal, skill_id))[0]).write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(RunError, match="is damaged"):
        bank_show(copy, skill_id)


def test_the_bank_of_a_run_goes_back_and_forth(run, capsys):
    before = Journal(run / "bank.db").replay().dump()
    bank_stats(run)
    bank_undo(run, to=1)
    told = said(capsys)
    assert "goes on from its checkpoint anyway" in told
    bank_list(run)
    bank_undo(run, event=int(re.findall(r"--event (\d+)", told)[-1]))
    assert Journal(run / "bank.db").replay().dump() == before
