"""`d2skill sft` and imitation of a file: won trajectories are played again, answers of chats are learned."""

import json
import re
from dataclasses import replace

import pytest
from toys import ScriptedPolicy, TreasureEnvironment, make_bank, make_scorer, tiny_config

from d2skill.cli.main import main
from d2skill.errors import ConfigError, RunError
from d2skill.rollout import Rollouts
from d2skill.runs import trajectories
from d2skill.warm_start import demonstrated_again, warm_start

pytest.importorskip("torch")

ENVIRONMENT = TreasureEnvironment()
CONFIG = tiny_config(env={"max_steps": 8})
TINY = (
    *("--env.kind", "toys:TreasureEnvironment", "--env.max-steps", "8", "--policy.lm.dtype", "float32"),
    *("--warm-start.epochs", "2", "--warm-start.learning-rate", "2e-3", "--prompt.max-tokens", "512"),
)


def searching(prompt):
    """Opens the chests in order, and takes what is there."""
    take = next((action for action in prompt.actions if action.startswith("take")), None)
    done = {action for _, action in prompt.history}
    return take or next(action for action in prompt.actions if action not in done)


@pytest.fixture
def played(tmp_path):
    """A file of episodes of eight tasks, some of them won."""
    rollouts = Rollouts(ENVIRONMENT, ScriptedPolicy(searching), make_bank(), CONFIG.prompt, 4)
    groups = rollouts.groups(
        list(ENVIRONMENT.task_ids("train"))[:8], group_size=2, with_skills=0, temperature=1.0, seed=0
    )
    file = tmp_path / "played.jsonl.gz"
    trajectories.write(file, [one for group in groups for one in group.trajectories])
    assert 0 < sum(one.success for one in trajectories.read(file)) < 16
    return file


def test_the_decisions_of_won_trajectories_are_shown_with_the_prompts_of_the_settings(played):
    pairs = demonstrated_again(CONFIG, ENVIRONMENT, make_scorer(), played)
    won = [one for one in trajectories.read(played) if one.success]
    assert [action for _, action in pairs] == [turn.action for one in won for turn in one.turns]
    assert all(action in prompt.actions for prompt, action in pairs)


def test_training_may_begin_with_a_file_in_place_of_an_expert(played):
    config = tiny_config(warm_start={"trajectories": played, "epochs": 20})
    policy = make_scorer()
    metrics = warm_start(config, ENVIRONMENT, policy, None, [])
    assert metrics["warm_start/demonstrations"] > 4 and metrics["warm_start/accuracy"] > 0.8


def test_trajectories_of_another_environment_are_named(played):
    class Changed(TreasureEnvironment):
        def start(self, task_id):
            session = super().start(task_id)
            session.observation = session.observation.__class__("Elsewhere.", session.observation.actions)
            return session

    with pytest.raises(ConfigError, match=r"no trajectory of it plays as it was saved .*differs in step 1 of"):
        demonstrated_again(CONFIG, Changed(), make_scorer(), played)


def test_a_file_without_a_success_is_refused(tmp_path, played):
    lost = tmp_path / "lost.jsonl"
    trajectories.write(lost, [one for one in trajectories.read(played) if not one.success])
    with pytest.raises(ConfigError, match="no trajectory of it was won"):
        demonstrated_again(CONFIG, ENVIRONMENT, make_scorer(), lost)
    with pytest.raises(RunError, match="missing"):
        demonstrated_again(CONFIG, ENVIRONMENT, make_scorer(), tmp_path / "missing.jsonl")


def test_sft_writes_a_model_to_train_with(played, tmp_path, capsys):
    out = tmp_path / "model"
    main(["sft", str(played), "--config", "laptop-lm", *TINY, "--out", str(out)])
    text = capsys.readouterr().out
    assert "Learned from" in text and f"--policy.lm.model {out / 'model'}" in text
    assert (out / "model" / "config.json").is_file()
    chats = tmp_path / "chats.jsonl"
    chat = [{"role": "user", "content": "Where is the ruby?"}, {"role": "assistant", "content": "open chest 1"}]
    chats.write_text(f"{json.dumps({'messages': chat})}\n" * 8)
    again = ("--policy.lm.model", str(out / "model"), "--policy.lm.lora-rank", "4", "--out", str(tmp_path / "adapter"))
    main(["sft", str(chats), "--config", "laptop-lm", *TINY, *again, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["chats"] == 8 and (tmp_path / "adapter" / "adapter" / "adapter_config.json").is_file()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"messages": [{"role": "user", "content": "hi"}]}', "line 1: .* is no chat with an answer"),
        ('{"messages": [{"role": "tool", "content": "hi"}, {"role": "assistant", "content": "a"}]}', "line 1"),
        ('{"messages": 3}', "line 1"),
        ('{"messages"', "line 1"),
    ],
)
def test_a_line_that_is_no_chat_is_named(tmp_path, capsys, line, sentence):
    file = tmp_path / "chats.jsonl"
    file.write_text(line)
    with pytest.raises(SystemExit):
        main(["sft", str(file), "--config", "laptop-lm", *TINY, "--out", str(tmp_path / "model")])
    assert re.search(sentence, " ".join(capsys.readouterr().err.split()))


def test_a_file_and_a_folder_are_asked_for(capsys, tmp_path, played):
    for words, sentence in (
        (["--out", str(tmp_path / "m")], "no FILE"),
        ([str(played)], "--out"),
        ([str(played), "--out", str(played)], "is there already"),
    ):
        with pytest.raises(SystemExit):
            main(["sft", *words])
        assert sentence in capsys.readouterr().err


def test_decisions_that_were_not_admissible_are_not_imitated(tmp_path):
    def shouting(prompt):
        return "sing" if len(prompt.history) == 0 else searching(prompt).upper()

    rollouts = Rollouts(ENVIRONMENT, ScriptedPolicy(shouting), make_bank(), CONFIG.prompt, 8)
    tasks = list(ENVIRONMENT.task_ids("train"))[:4]
    (one, *_) = rollouts.groups(tasks, group_size=1, with_skills=0, temperature=1.0, seed=0)
    file = tmp_path / "shouted.jsonl"
    trajectories.write(file, one.trajectories)
    pairs = demonstrated_again(CONFIG, ENVIRONMENT, make_scorer(), file)
    assert len(pairs) == len(one.trajectories[0].turns) - 1
    assert all(action in prompt.actions for prompt, action in pairs)


def test_a_task_that_is_gone_leaves_the_others(played, caplog):
    saved = trajectories.read(played)
    gone = [replace(one, task=replace(one.task, id="gone/1")) for one in saved if one.success][:1]
    trajectories.write(played, [*gone, *saved])
    assert demonstrated_again(CONFIG, ENVIRONMENT, make_scorer(), played)
    assert "left out" in caplog.text


def test_chats_that_are_odd_are_sentences_or_learned(tmp_path, capsys):
    file = tmp_path / "chats.jsonl"
    chat = [{"role": "user", "content": "hi \ud800"}, {"role": "assistant", "content": "word " * 5000}]
    file.write_text(f"\n{json.dumps({'messages': chat})}\n")
    main(["sft", str(file), "--config", "laptop-lm", *TINY, "--warm-start.epochs", "1", "--out", str(tmp_path / "m")])
    assert "Learned from 1 chat" in capsys.readouterr().out
    file.write_text('{"messages": ' + "[" * 100_000)
    for out, sentence in ((tmp_path / "n", "is no chat"), (file / "x", "cannot be made")):
        with pytest.raises(SystemExit):
            main(["sft", str(file), "--config", "laptop-lm", *TINY, "--out", str(out)])
        assert sentence in " ".join(capsys.readouterr().err.split())
        file.write_text(json.dumps({"messages": chat}))
