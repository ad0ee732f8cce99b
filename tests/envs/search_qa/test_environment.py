"""The environment over a small corpus made here, and over the real one: splits, rules, presets, doctor, commands."""

import json

import pytest
from rich.console import Console

from d2skill.cli.main import main
from d2skill.config import Config, EnvConfig, SearchQAConfig
from d2skill.config.toml_files import load
from d2skill.envs import make_environment
from d2skill.errors import ConfigError, DataError
from d2skill.planning.diagnostics import CHECKS
from d2skill.play import play
from d2skill.prompts import in_tags
from d2skill.protocols import Environment, SupportsExpert
from d2skill.testing import check_environment


def made(data, **settings):
    return make_environment(EnvConfig(kind="search-qa", data=data, search_qa=SearchQAConfig(**settings)))


@pytest.fixture(scope="session")
def small(small_folder):
    return made(small_folder)


def rules_broken(environment, split):
    assert isinstance(environment, Environment)
    return [finding.detail for finding in check_environment(environment, split) if not finding.ok]


@pytest.mark.parametrize(
    "settings", [{}, {"queries": 0, "answers": 0}, {"answers": 0}, {"shape": "verl-agent"}, {"turns": 1}]
)
@pytest.mark.parametrize("split", ["train", "test", "bamboogle"])
def test_it_keeps_the_rules_of_environments(small_folder, settings, split):
    environment = made(small_folder, **settings)
    assert isinstance(environment, SupportsExpert)
    assert rules_broken(environment, split) == []


@pytest.mark.parametrize("settings", [{"reference": True}, {"queries": 0, "answers": 0}, {"answers": 0, "turns": 2}])
def test_without_listed_actions_the_expert_plays_the_same(small, small_folder, settings):
    free = made(small_folder, **settings)
    for task_id in small.task_ids("test"):
        session, twin = free.start(task_id), small.start(task_id)
        expert, chooser = free.expert(session.task, (), 0), small.expert(twin.task, (), 0)
        while not session.observation.done:
            wanted = chooser.act(twin.observation)
            action = expert.act(session.observation)
            assert session.observation.admits(action)
            assert action == (in_tags(wanted, ("search[...]",)) if "reference" in settings else wanted)
            assert session.step(action).done == twin.step(wanted).done
        assert session.observation.success == twin.observation.success


def test_splits_are_by_part_by_set_and_by_panel(small, small_folder):
    parts = ("train", "validation", "test")
    ids = {split + end: small.task_ids(split + end) for end in ("", "-nq", "-popqa") for split in parts}
    assert [len(found) for found in ids.values()] == [35, 5, 10, 21, 3, 6, 14, 2, 4]
    assert ids["test"] == ids["test-nq"] + ids["test-popqa"]
    assert len(set().union(*ids.values())) == 50 and small.task_ids("bamboogle") == ("bamboogle/1", "bamboogle/2")
    assert made(small_folder).task_ids("train") == ids["train"] != made(small_folder, seed=1).task_ids("train")
    task = small.start(ids["test-nq"][0]).task
    assert (task.id, task.split, task.kind) == (ids["test-nq"][0], "test", "nq")
    assert small.start("bamboogle/1").task.split == "bamboogle"
    assert small.golden_answers("nq/test_3") == ("Quito 3", "nowhere")
    assert small.questions("bamboogle")[0].text == small.start("bamboogle/1").task.text
    with pytest.raises(ConfigError, match=r'no split "valid_seen": name one of train, train-nq, .*, bamboogle'):
        small.task_ids("valid_seen")
    for ask in (small.start, small.golden_answers):
        with pytest.raises(ConfigError, match="there is no question nq/9 among 52: name one of `task_ids`, such as "):
            ask("nq/9")


def test_sets_that_are_not_cut_are_panels(small_folder):
    environment = made(small_folder, sets=("popqa", "musique"))
    assert len(environment.task_ids("nq")) == 30 and len(environment.task_ids("train")) == 14
    with pytest.raises(ConfigError, match="no questions of musique, but of bamboogle, nq, popqa: name sets with --env"):
        made(small_folder, sets=("musique",))


def test_a_question_that_a_panel_has_is_not_trained_on(tmp_path):
    rows = [{"id": str(n), "question": f"question {n}?", "golden_answers": ["x"]} for n in range(50)]
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": "0", "contents": '"T"\nx'}))
    (tmp_path / "nq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    before = {made(tmp_path).start(one).task.text for one in made(tmp_path).task_ids("train")}
    (tmp_path / "musique.jsonl").write_text("\n".join(map(json.dumps, rows[:25])))
    environment = made(tmp_path)
    trained = {environment.start(one).task.text for one in environment.task_ids("train")}
    assert trained == before - {row["question"] for row in rows[:25]}
    assert len(environment.task_ids("musique")) == 25
    (tmp_path / "test.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(DataError, match="has a set test, which is the name of a split: name its file otherwise"):
        made(tmp_path)


def test_actions_are_listed_with_labels_and_on_the_last_turn_only_answers(small):
    session = small.start("nq/test_3")
    seen = session.observation
    assert any(action.startswith("search[") for action in seen.actions)
    for _ in range(3):
        assert len(seen.labels) == len(seen.actions)
        assert not any(name in seen.text for name in small.golden_answers("nq/test_3")) or seen.text.startswith("<info")
        seen = session.step(next(action for action in seen.actions if action.startswith("search[")))
    assert seen.actions and all(action.startswith("answer[") for action in seen.actions)
    assert seen.forms == ("answer[...]",)
    assert "answer[Quito 3]" in seen.actions
    assert session.step("answer[Quito 3]").success


def test_data_that_is_not_named_or_not_there_is_told_in_a_sentence(tmp_path, monkeypatch, small_folder):
    monkeypatch.delenv("SEARCH_QA_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"name their folder with --data or \$SEARCH_QA_DATA"):
        made(None)
    with pytest.raises(ConfigError, match="no questions of nq, triviaqa, popqa, but of no set at all"):
        made(tmp_path)
    monkeypatch.setenv("SEARCH_QA_DATA", str(small_folder))
    assert len(made(None).task_ids("train")) == 35


def test_the_doctor_looks_at_the_data(tmp_path, monkeypatch, small_folder):
    monkeypatch.delenv("SEARCH_QA_DATA", raising=False)

    def line(**given):
        config = Config.model_validate({"env": {"kind": "search-qa", **given}})
        [found] = CHECKS["search QA data"](config)
        return found

    assert line().status == "missing" and "SEARCH_QA_DATA" in line().fix
    assert line(kind="houses").status == "optional"
    found = line(data=small_folder)
    assert found.status == "found" and "bamboogle 2, nq 30, popqa 20 in" in found.detail
    assert line(data=tmp_path).status == "missing" and "--env.search-qa.sets" in line(data=tmp_path).fix
    (tmp_path / "nq.jsonl").write_text('{"question": "q", "golden_answers": ["x"]}')
    assert "corpus.jsonl is missing" in line(data=tmp_path).detail
    served = {"retriever": "http", "url": "http://127.0.0.1:1/retrieve"}
    assert "passages at http://127.0.0.1:1/retrieve" in line(data=tmp_path, search_qa=served).detail


def test_a_person_can_play(small):
    lines = iter(["nonsense", "search where was emma born", "answer[Hanoi]"])
    console = Console(record=True, width=200)
    saved = play(small, "nq/test_3", console, lambda prompt, completions: next(lines))
    text = console.export_text()
    assert "Golden answers: Quito 3; nowhere" in text and "not right" in text and "<information>" not in text
    assert [turn.action for turn in saved.turns] == ["nonsense", "search[where was emma born]", "answer[Hanoi]"]
    assert "Quito 3; nowhere" not in json.dumps(saved.final)


def test_the_presets_are_as_published():
    paper, verl, small = (load(f"search-qa{name}") for name in ("-paper", "-verl", ""))
    for config in (paper, verl):
        lm = config.policy.lm
        assert (lm.model, lm.answer, lm.max_new_tokens) == ("Qwen/Qwen2.5-7B-Instruct", "free", 700)
        assert (config.prompt.history, config.prompt.max_tokens, config.rollout.group_size) == (4, 5000, 8)
        assert (config.env.search_qa.queries, config.env.search_qa.answers) == (0, 0)
    for config in (paper, verl, small):
        assert (config.env.kind, config.env.max_steps, config.env.search_qa.turns) == ("search-qa", 4, 4)
        assert config.env.search_qa.passages == 3 and config.env.validation_split == "validation"
    assert verl.engine == "verl" and small.policy.kind == "scorer"


def test_the_preset_of_its_name_trains_and_evaluates(small_folder, tmp_path):
    small = ["--train.iterations", "2", "--validation.tasks", "4", "--warm-start.tasks", "20", "--rollout.tasks", "4"]
    main(["train", "--env", "search-qa", "--data", str(small_folder), *small, "--out", str(tmp_path / "run")])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 <= summary["validation"]["without_skills"]["score"] <= 1
    main(["evaluate", str(tmp_path / "run"), "--split", "test-nq", "--json", str(tmp_path / "test.json")])
    assert json.loads((tmp_path / "test.json").read_text())["arms"]["bank"]["n"] == 6


def test_the_real_data_is_played(real_folder, capsys):
    main(["check-env", "search-qa", "--data", str(real_folder)])
    said = capsys.readouterr().out
    assert "2100 tasks in train" in said and "WRONG" not in said
