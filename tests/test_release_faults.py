"""One test for each fault of the release that must not come back (docs/method.md), through the real loop."""

import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import permutations

import pytest
from toys import (
    START,
    NotingReflector,
    ScriptedPolicy,
    TreasureEnvironment,
    group,
    make_bank,
    skill,
    step_draft,
    task,
    task_draft,
    tiny_config,
    trajectory,
    turn,
)

from d2skill import credit
from d2skill.bank import SkillBank
from d2skill.bank.formats import json_lines
from d2skill.components import Components, restore
from d2skill.config import AdvantageConfig, PromptConfig, ReflectConfig, RewardConfig
from d2skill.credit import hindsight
from d2skill.embedders import make_embedder
from d2skill.learner import Learner
from d2skill.prompts import render
from d2skill.rollout import Rollouts
from d2skill.runs.checkpoint import latest
from d2skill.runs.folder import RunFolder
from d2skill.runs.tasks import RunTasks, select_panel
from d2skill.trainer import Trainer
from d2skill.types import Group, Reflection, SkillText

NOTE = Reflection(
    0, SkillText("ruby: open chest 3", "Open chest 3.", "it is shut"), SkillText("Search", "Look.", "always")
)


def play(policy, bank, tasks=("train/000",), max_steps=3, seed=0, members=(2, 1), **prompt) -> list[Group]:
    size, skilled = members
    rollouts = Rollouts(TreasureEnvironment(), policy, bank, PromptConfig(**prompt), max_steps)
    return rollouts.groups(tasks, group_size=size, with_skills=skilled, temperature=1.0, seed=seed)


def learn(groups, bank, reflector=None, iteration=0, seed=0, **reflect):
    learner = Learner(bank, reflector or NotingReflector(NOTE), ReflectConfig(**reflect))
    return learner.observe(groups, hindsight(groups), iteration=iteration, seed=seed)


def first_shown(config, drafts, signals=None) -> list[str]:
    """Titles of the task skills in the first prompt of a run's parts, its bank filled with drafts."""
    bank = Components.make(config).bank
    bank.insert(drafts, 0)
    bank.credit(signals or {})
    (one,) = play(ScriptedPolicy(lambda p: "open chest 1"), bank)
    return [s.text.title for s in one.half("skills")[0].turns[0].prompt.task_skills]


# 1, 2: retrieval


@pytest.mark.parametrize(
    ("retrieval", "first"),
    [
        ({"alpha": 1.0}, "Near"),
        ({"alpha": 0.0}, "Good"),
        ({"alpha": 0.0, "candidates": 1}, "Near"),
        ({"alpha": 0.0, "eta": 100.0}, "Rare"),
    ],
)
def test_fault_01_retrieval_knows_alpha_m_and_eta(retrieval, first):
    """What the settings say of Eq. 8 decides which skill a rollout shows first."""
    config = tiny_config(retrieval={"k_task": 1, "gate": 0.1} | retrieval)
    bank = Components.make(config).bank
    bank.insert([task_draft("Near"), task_draft("Good", "Look.", "take the opal"), task_draft("Rare", "Wait.")], 0)
    bank.credit({"t1": [0.1], "t2": [1.0]})
    bank.count_retrievals({"t1": 30, "t2": 30})
    if "candidates" in retrieval:
        bank.count_retrievals({"t3": 1})
    (one,) = play(ScriptedPolicy(lambda p: "open chest 1"), bank)
    assert [s.text.title for s in one.half("skills")[0].turns[0].prompt.task_skills] == [first]


def test_fault_02_the_gate_comes_before_top_k():
    """Twelve skills of great utility about something else leave no slot empty for the one that fits."""
    others = [task_draft(f"Other {i}", f"Do {i}.", f"wash window {i}") for i in range(12)]
    config = tiny_config(retrieval={"alpha": 0.0, "candidates": 3, "k_task": 2})
    signals = {f"t{i}": [1.0] for i in range(1, 13)}
    assert first_shown(config, [*others, task_draft("Fits")], signals) == ["Fits"]


# 3: the intrinsic reward


def test_fault_03_the_intrinsic_reward_is_the_skill_halfs_and_the_whole_trajectorys():
    """R_int changes the returns of skill trajectories only, and one advantage holds for all rows of a trajectory."""
    turns = [turn(), turn("right"), turn()]
    one = group([True, False, True], [False, True, False], turns=turns)
    seen = hindsight([one])
    plain, shaped = (credit.returns(one, seen[0], RewardConfig(intrinsic=scale)) for scale in (0.0, 1.0))
    assert (shaped - plain) == pytest.approx([2 / 3, -1 / 3, 2 / 3, 0, 0, 0])
    rows = credit.policy_batch([one], seen, RewardConfig(), AdvantageConfig())
    by_trajectory = [{row.advantage for row in rows[i : i + 3]} for i in range(0, len(rows), 3)]
    assert [len(values) for values in by_trajectory] == [1] * 6
    values = [next(iter(v)) for v in by_trajectory]
    assert values[0] > values[4] > values[3] > values[1]  # a success with skills gains more, a failure loses more


# 4: the first decision


def test_fault_04_step_skills_are_retrieved_for_the_first_decision():
    """A step skill keyed to the start stands in the very first prompt."""
    bank = make_bank(step_draft("At the start", seen=START))
    (one,) = play(ScriptedPolicy(lambda p: "open chest 1"), bank)
    assert one.half("skills")[0].turns[0].skill_ids == ("s1",)


# 5: n, and the order of trajectories


def test_fault_05_n_counts_retrievals_and_not_credits():
    """A step skill shown at three steps of one trajectory has n = 3 and one credit, with a baseline half or without."""
    for members in ((2, 1), (1, 1)):
        bank = make_bank(step_draft("Anywhere"), retrieval={"gate": -1.0})
        groups = play(ScriptedPolicy(lambda p: "open chest 1"), bank, members=members)
        learn(groups, bank, max_groups=0)
        assert (bank.get("s1").retrievals, bank.get("s1").credits) == (3, 1)


def iteration_result(groups, tmp_path) -> bytes:
    bank = make_bank(task_draft("One"), step_draft("Two"), step_draft("Three", "Look."))

    class Writer:
        """Writes what depends on the failure and the success it was shown."""

        def reflect(self, failure, success):
            said = f"{failure.task.id} {failure.index} {success.index if success else None}"
            return Reflection(
                0, SkillText(f"Step {said}", f"Do {said}.", "now"), SkillText(f"Task {said}", said, "now")
            )

    learn(groups, bank, Writer(), seed=3, max_groups=2, threshold=0.9)
    json_lines.write(tmp_path / "bank.jsonl", json_lines.BankRecord("any", 9, 9, tuple(bank.skills(status=None))))
    return (tmp_path / "bank.jsonl").read_bytes()


def order_groups() -> list[Group]:
    bank = make_bank(task_draft("One"), step_draft("Two"), step_draft("Three", "Look."))
    t1, s1, s2 = bank.skills()
    groups = []
    for number, outcomes in enumerate([(0, 1, 0, 0), (0, 0, 1, 1), (1, 0, 0, 1)]):
        own = task(f"train/{number:03d}")
        shown = [[t1, s1], [t1, s1, s2], [s2], [t1]]
        members = [
            trajectory("skills", i, bool(y), [turn(skills=shown[i])] * 2, task=own) for i, y in enumerate(outcomes)
        ]
        members += [trajectory("none", 4 + i, i == number, task=own) for i in range(3)]
        groups.append(Group(own, tuple(members)))
    return groups


def test_fault_05_an_iteration_does_not_depend_on_the_order_of_groups(tmp_path):
    """The same utilities, counts, ids and skills come out, to the byte, in whatever order groups come."""
    results = {iteration_result(list(order), tmp_path) for order in permutations(order_groups())}
    assert len(results) == 1


def test_fault_05_an_iteration_does_not_depend_on_the_order_of_trajectories(tmp_path):
    """The same utilities, counts, ids and skills come out, to the byte, in whatever order trajectories finished."""
    groups = order_groups()
    results = {iteration_result(groups, tmp_path)}
    for turned in range(1, 7):
        mixed = [replace(g, trajectories=g.trajectories[turned:] + g.trajectories[:turned]) for g in groups]
        results.add(iteration_result([replace(g, trajectories=g.trajectories[::-1]) for g in mixed], tmp_path))
    assert len(results) == 1


# 6: only what the policy acted on


def test_fault_06_skills_that_the_budget_cut_get_no_credit():
    """Three long skills are retrieved and one fits: the other two were never shown."""
    drafts = [task_draft(f"Number {name}", f"{name} " * 20) for name in ("one", "two", "three")]
    bank = make_bank(*drafts)
    groups = play(ScriptedPolicy(lambda p: "open chest 1"), bank, max_tokens=64)
    assert {s.id for t in groups[0].half("skills") for one in t.turns for s in one.prompt.task_skills} == {"t1"}
    learn(groups, bank, max_groups=0)
    assert [(s.id, s.credits, s.retrievals) for s in bank.skills()] == [("t1", 1, 1), ("t2", 0, 0), ("t3", 0, 0)]


def test_fault_06_skills_for_what_is_seen_after_the_end_get_no_credit():
    """A skill keyed to an episode's last observation is never retrieved while other episodes go on."""
    last = "You have the ruby 1."
    bank = make_bank(step_draft("Too late", seen=last), step_draft("In time"), retrieval={"gate": 0.9})
    policy = ScriptedPolicy(lambda p: "open chest 3" if p.observation == START and "ruby" in p.task else p.actions[-1])
    groups = play(policy, bank, ("train/000", "train/001"), max_steps=6, members=(4, 2))
    assert groups[0].half("skills")[0].final == last
    assert max(len(t.turns) for t in groups[1].trajectories) == 6
    learn(groups, bank, max_groups=0)
    assert (bank.get("s1").credits, bank.get("s1").retrievals) == (0, 0)
    assert (bank.get("s2").credits, bank.get("s2").retrievals) == (2, 2)


# 7: reflection


def test_fault_07_the_failure_comes_from_the_skill_half():
    """With failures in both halves, no choice of the seed reflects on one of the baseline half."""
    for seed in range(20):
        reflector = NotingReflector(NOTE)
        learn([group([True, False, False, False], [False] * 4)], make_bank(), reflector, seed=seed)
        ((failure, success),) = reflector.asked
        assert (failure.arm, failure.success, success.success) == ("skills", False, True)


def test_fault_07_groups_are_drawn_at_random_and_at_most_r():
    """Of 30 groups that qualify ten are reflected on, and over iterations each of them has its turn."""
    groups = [group([False, False], [True, False], task(f"train/{n:03d}")) for n in range(30)]
    groups += [group([True, True], [False, False], task(f"train/{n:03d}")) for n in range(30, 40)]
    times = dict.fromkeys((g.task.id for g in groups), 0)
    for iteration in range(40):
        reflector = NotingReflector(NOTE)
        assert learn(groups, make_bank(), reflector, iteration=iteration, max_groups=10).reflected == 10
        asked = [failure.task.id for failure, _ in reflector.asked]
        assert len(set(asked)) == 10
        for task_id in asked:
            times[task_id] += 1
    counts = list(times.values())
    assert min(counts[:30]) >= 4 and max(counts[:30]) <= 25  # 40 · 10/30 = 13 each on average
    assert counts[30:] == [0] * 10


# 8: what a reflector invents


def test_fault_08_fields_that_a_reflector_invents_do_not_reach_the_bank():
    """Utility, id and counts of an answer are dropped: the bank gives its own."""

    @dataclass(frozen=True)
    class Boastful(SkillText):
        utility: float = 9.0
        id: str = "t99"
        retrievals: int = 50
        created: int = -7

    bank = make_bank()
    answer = Reflection(0, Boastful("Step", "Do it.", "now"), Boastful("Task", "Do it all.", "now"))
    learn([group([False], [False])], bank, NotingReflector(answer), iteration=6)
    assert [(s.id, s.utility, s.retrievals, s.created) for s in bank.skills()] == [("t1", 0, 0, 6), ("s1", 0, 0, 6)]
    assert all(type(s.text) is SkillText for s in bank.skills())
    with pytest.raises(TypeError):
        SkillText("Title", "Principle", "When", utility=1.0)


# 9: eviction and resume


def test_fault_09_a_restored_bank_has_what_the_run_had_and_gives_out_no_old_ids(tmp_path):
    """Evicted skills stay evicted, utilities are exact, and the next id is a new one."""
    config = tiny_config(train={"iterations": 6}, bank={"step_capacity": 2, "task_capacity": 2, "protect": 0})
    parts = Components.make(config)
    Trainer(config, tmp_path / "run", parts).start()
    before = parts.bank.skills(status=None)
    assert any(s.evicted is not None for s in before) and any(s.utility for s in before)
    restored = restore(config, latest(tmp_path / "run"))[0].bank
    assert restored.skills(status=None) == before
    restored.record(tmp_path / "run" / "bank.db")
    (new,) = restored.insert([step_draft("New", "Never said before.")], 9)
    assert new.skill.id not in {s.id for s in before}


# 10: when_to_apply


def test_fault_10_the_policy_is_shown_when_to_apply_a_skill():
    """All three fields of both kinds of skills stand in the rendered prompt."""
    texts = [SkillText(f"title-{k}", f"principle-{k}", f"condition-{k}") for k in ("task", "step")]
    asked = turn(skills=[replace(skill("t1"), text=texts[0]), replace(skill("s1"), text=texts[1])]).prompt
    for answer in ("choice", "free"):
        (message,) = render(asked, answer)
        for text in texts:
            assert text.title in message["content"]
            assert text.principle in message["content"]
            assert text.when_to_apply in message["content"]


# 11: inadmissible actions


def test_fault_11_an_action_outside_the_admissible_ones_is_noticed_counted_and_penalised():
    """The second of three actions does not exist: it is marked, and costs one."""
    policy = ScriptedPolicy(lambda p: ["open chest 1", "open chest 77", "open chest 2"][len(p.history)])
    (one,) = play(policy, make_bank())
    for member in one.trajectories:
        assert [t.admissible for t in member.turns] == [True, False, True]
        assert member.invalid_actions == 1
        assert credit.penalties(member, RewardConfig(invalid_penalty=1.5)).tolist() == [0.0, 1.5, 0.0]
    whole = RewardConfig(invalid_penalty=1.5, penalty="trajectory")
    assert credit.returns(one, hindsight([one])[0], whole).tolist() == [-1.5, -1.5]


# 12: panels


def test_fault_12_panels_are_fixed_and_apart_from_training(tmp_path):
    """Every seed has the same panel, written down by task id, and trains on none of it."""
    panels = []
    for seed in (0, 1):
        config = tiny_config(train={"iterations": 1}, validation={"tasks": 5}).model_copy(update={"seed": seed})
        parts = Components.make(config)
        played = set()
        start = parts.environment.start
        parts.environment.start = lambda task_id, start=start, played=played: played.add(task_id) or start(task_id)
        run = tmp_path / str(seed)
        Trainer(config, run, parts).start()
        panel = list(RunTasks.read(run / "tasks.json").validation.task_ids)
        assert panel == select_panel(TreasureEnvironment(), "valid_seen", 5)
        assert {i for i in played if i.startswith("valid")} == set(panel)
        assert not set(panel) & set(parts.environment.task_ids("train"))
        panels.append(panel)
    assert panels[0] == panels[1]


# 13: the headline


def test_fault_13_the_headline_is_the_last_evaluation_with_an_interval(tmp_path):
    """A policy that is good at first and bad in the end is summed up as bad."""
    config = tiny_config(train={"iterations": 3}, warm_start={"tasks": 0})
    policy = ScriptedPolicy(lambda p: "")
    gems = {f"take the {gem}": f"open chest {TreasureEnvironment().chest_of(gem)}" for gem in ("ruby", "opal")}

    def choose(prompt):
        if len(policy.updates) >= 2:
            return "open chest 1"
        return prompt.actions[-1] if "In it" in prompt.observation else gems.get(prompt.task, "open chest 1")

    policy.choose = choose
    parts = replace(Components.make(config), policy=policy)
    summary = Trainer(config, tmp_path / "run", parts).start()
    lines = RunFolder(tmp_path / "run").read_metrics()
    curve = [line["validation/with_skills"] for line in lines]
    assert max(curve) > curve[-1] == 0.0
    for arm in ("with_skills", "without_skills"):
        result = summary["validation"][arm]
        assert result["success"] == lines[-1][f"validation/{arm}"] == 0.0
        assert result["n"] == 8
        assert result["ci95"][0] <= result["success"] < result["ci95"][1]
    assert set(summary["validation"]["difference"]) == {"mean", "ci95"}
    assert summary["iterations"] == 3


# 14: no service

_WATCH = """
import sys
seen = []
sys.addaudithook(lambda event, args: event.startswith("socket.") and seen.append(event))
sys.path.insert(0, "tests")
import d2skill
from toys import make_bank, task_draft, step_draft
bank = make_bank(task_draft("One"), step_draft("Two"))
assert bank.retrieve_task(["take the ruby"])[0] and bank.retrieve_step([("take the ruby", "x")]) is not None
import d2skill.trainer
servers = {"http.server", "socketserver", "xmlrpc", "asyncio", "starlette", "fastapi", "flask", "uvicorn", "aiohttp"}
print([e for e in seen if e != "socket.__new__"], sorted(servers & set(sys.modules)))
"""


def test_fault_14_retrieval_is_no_service(request):
    """Importing d2skill and asking its bank opens no socket and loads no server; a bank takes texts, not files."""
    found = subprocess.run(
        [sys.executable, "-c", _WATCH], capture_output=True, text=True, cwd=request.config.rootpath, check=True
    )
    assert found.stdout.strip() == "[] []"


def test_fault_14_the_bank_is_an_object_in_this_process():
    """A bank is made from an embedder and settings; nothing in its settings names a host, a port or a file."""
    config = tiny_config()
    SkillBank(make_embedder(config.embedder), config.bank, config.retrieval, config.credit)
    names = {n for part in (config.bank, config.retrieval, config.embedder) for n in type(part).model_fields}
    assert not names & {"host", "port", "url", "path", "file"}
