"""The agent loop with a scripted server and a bank actor in this process: arms, rows, trajectories, faults, batches."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from toys import FaultyEnvironment, tiny_config

pytest.importorskip("verl")

from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.replica import TokenOutput

from d2skill.bank import Draft, SkillBank
from d2skill.components import sample_texts
from d2skill.config import CausalLMConfig
from d2skill.embedders import make_embedder
from d2skill.envs import make_environment
from d2skill.errors import BankError, ConfigError
from d2skill.knowledge.evidence import Evidence
from d2skill.policies.answers import parse_action
from d2skill.policies.causal_lm.chat_template import ChatTokenizer
from d2skill.policies.causal_lm.loading import end_tokens
from d2skill.policies.causal_lm.tiny_model import make_tiny_model
from d2skill.rollout import Rollouts
from d2skill.runs.folder import RunFolder
from d2skill.types import Decision, SkillText, Task
from d2skill.verl import agent_loop
from d2skill.verl.agent_loop import Retriever, SkillAgentLoop, session_arm
from d2skill.verl.bank_actor import BankActor
from d2skill.verl.rows import unpack

TASKS = ("train/0003", "train/0011")
LM = CausalLMConfig(answer="free", hidden_size=16, layers=1, heads=2)
PROMPT, RESPONSE = 2048, 24


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a small model, and its tokenizer."""
    environment = make_environment(tiny_config(env={"kind": "houses"}).env)
    made, tokenizer = make_tiny_model(LM, sample_texts(environment, "train"), 0)
    folder = tmp_path_factory.mktemp("model")
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), tokenizer


class Handle:
    """A bank actor as it looks through Ray; `sizes` are those of its calls."""

    def __init__(self, actor):
        self.actor, self.sizes = actor, []
        self.retrieve = SimpleNamespace(remote=self._retrieve)

    async def _retrieve(self, queries):
        self.sizes.append(len(queries))
        await asyncio.sleep(0)
        return self.actor.retrieve(queries)


class Server:
    """Answers what `answer` says to the text of a prompt, in tokens; keeps what it was asked."""

    def __init__(self, tokenizer, answer):
        self._tokenizer, self._answer = tokenizer, answer
        self.asked = []

    async def generate(self, request_id, *, prompt_ids, sampling_params):
        assert isinstance(prompt_ids, list)
        self.asked.append((request_id, prompt_ids, dict(sampling_params)))
        sampling_params.pop("logprobs", None)  # as verl's servers take what is theirs
        await asyncio.sleep(0)
        tokens = self._tokenizer(self._answer(self._tokenizer.decode(prompt_ids)), add_special_tokens=False).input_ids
        own = [-0.5 - i for i in range(len(tokens))]
        told = {"global_steps": 2, "min_global_steps": 2, "max_global_steps": 2}
        return TokenOutput(token_ids=tokens, log_probs=own or None, extra_fields=told)

    @property
    def texts(self):
        return [self._tokenizer.decode(prompt) for _, prompt, _ in self.asked]


def third(text):
    """Plays the third of the admissible actions, a new one at each place; thinks first."""
    actions = text.partition("Admissible actions:\n")[2].partition("<|im_end|>")[0].splitlines()
    return f"<think> well </think><action>{actions[2]}</action><|im_end|>"


class Stage:
    """A run with a bank, and what plays its rows."""

    def __init__(self, tmp_path, monkeypatch, model, answer=third, environment=None, **sections):
        lm = LM.model_dump() | {"model": model[0]}
        own = {"env": {"kind": "houses", "max_steps": 5}, "policy": {"kind": "causal-lm", "lm": lm}} | sections
        self.config = tiny_config(**({"rollout": {"group_size": 6, "with_skills": 4}} | own))
        self.run = RunFolder.create(tmp_path / "run")
        self.run.begin(self.config, {})
        environment = environment or make_environment(self.config.env)
        self.environment = environment
        bank = SkillBank(make_embedder(self.config.embedder))
        bank.record(self.run.bank)
        houses = make_environment(tiny_config(env={"kind": "houses"}).env)
        texts = [houses.start(task).task.text for task in TASKS]
        bank.insert([Draft("task", SkillText(f"Old {n}", "Look.", "always"), text) for n, text in enumerate(texts)], 0)
        bank.close()
        self.handle = Handle(BankActor(self.run.path))
        self.server, self.tokenizer = Server(model[1], answer), model[1]
        monkeypatch.setattr(agent_loop, "find_bank_actor", lambda run: self.handle)
        monkeypatch.setattr(agent_loop, "make_environment", lambda settings: environment)
        actor = {"rollout": {"prompt_length": PROMPT, "response_length": RESPONSE}, "model": {"path": model[0]}}
        self._verl = OmegaConf.create({"actor_rollout_ref": actor, "data": {}})

    def serve_by(self, rollout):
        """Names the kind of server, which then writes longer answers."""
        self._verl.actor_rollout_ref.rollout.update({"name": rollout, "response_length": 200})

    def session(self, number, task=TASKS[0], arm="", **sampling):
        made = SkillAgentLoop(
            trainer_config=DictConfigWrap(self._verl),
            server_manager=self.server,
            tokenizer=self.tokenizer,
            processor=None,
            dataset_cls=None,
            data_config=DictConfigWrap(self._verl.data),
            hf_model_type="qwen2",
            tools=ToolListWrap([]),
            run=str(self.run.path),
        )
        row = {"index": 0, "task": task, "arm": arm, "iteration": 2}
        given = {"temperature": 1.0, "logprobs": True} | sampling
        return made.run(given, session_id=number, extra_info=row, global_steps=3, uid="u", data_source="train")

    def play(self, *sessions):
        async def together():
            return await asyncio.gather(*sessions)

        return asyncio.run(together())


@pytest.fixture
def stage(tmp_path, monkeypatch, model):
    stages = []

    def made(**given):
        stages.append(Stage(tmp_path, monkeypatch, model, **given))
        return stages[-1]

    yield made
    for one in stages:
        one.handle.actor.close()


def trajectories(played):
    return [unpack(rows[-1].extra_fields["trajectory"]) for rows in played]


# rows


def test_each_step_is_a_row_with_its_tokens(stage):
    own = stage()
    (rows,) = own.play(own.session(1))
    (played,) = trajectories([rows])
    chat = ChatTokenizer(own.tokenizer, LM, [own.tokenizer.eos_token_id], PROMPT)
    assert len(rows) == len(played.turns) == 5
    for step, (row, turn) in enumerate(zip(rows, played.turns, strict=True)):
        assert tuple(row.prompt_ids) == chat.prompt_ids(turn.prompt)
        assert chat.decode(row.response_ids) == turn.decision.text
        assert row.response_ids[-1] == own.tokenizer.eos_token_id
        assert row.response_mask == [1] * len(row.response_ids)
        assert row.response_logprobs == [-0.5 - i for i in range(len(row.response_ids))]
        assert (row.num_turns, row.reward_score) == (2 * (step + 1), 0.0)
        assert row.metrics.generate_sequences > 0
        assert row.extra_fields["reward_extra_info"] == {"success": 0.0}
        assert row.extra_fields["min_global_steps"] == 2
        assert ("trajectory" in row.extra_fields) == (step == 4)
    assert [turn.admissible for turn in played.turns] == [True] * 5


def test_a_server_knows_a_session_and_gets_parameters_of_its_own(stage):
    own = stage()
    own.play(own.session(0, top_k=-1), own.session(5, top_k=-1))
    names = [name for name, _, _ in own.server.asked]
    assert len(names) == 10
    assert sorted(names.count(name) for name in set(names)) == [5, 5]
    assert all(given == {"temperature": 1.0, "logprobs": True, "top_k": -1} for _, _, given in own.server.asked)


def test_answers_over_the_limit_are_cut_with_their_log_probabilities(stage):
    own = stage(answer=lambda text: "word " * 100)
    (rows,) = own.play(own.session(0))
    assert {len(row.response_ids) for row in rows} == {len(row.response_logprobs) for row in rows} == {RESPONSE}


@pytest.mark.parametrize("logprobs", [True, False])
def test_empty_answers_and_sessions_that_never_began_fit_in_with_the_rest(stage, logprobs):
    answers = iter(["", *[f"<action>look {n}</action>" for n in range(9)]])

    class Broken:
        def start(self, task_id):
            if task_id == TASKS[1]:
                raise OSError("no such house")
            return inner.start(task_id)

    inner = make_environment(tiny_config(env={"kind": "houses"}).env)
    own = stage(environment=Broken(), answer=lambda text: next(answers))
    rows, failed = own.play(own.session(5, logprobs=logprobs), own.session(5, TASKS[1], logprobs=logprobs))
    end = own.tokenizer.eos_token_id
    assert (rows[0].response_ids, rows[0].response_mask) == ([end], [0])
    (row,) = failed
    assert (row.prompt_ids, row.response_ids, row.response_mask) == ([end], [end], [0])
    assert (row.extra_fields["min_global_steps"], row.extra_fields["max_global_steps"]) == (2, 2)
    first, second = trajectories([rows, failed])
    assert (first.turns[0].decision.action, first.turns[0].admissible, first.fault) == ("", False, "")
    assert first.invalid_actions == 5 and rows[0].reward_score == 0.0, (
        "the penalty comes with the advantages of the rows"
    )
    assert (second.task.id, second.turns, second.fault) == (TASKS[1], (), "OSError: no such house")
    if logprobs:
        assert rows[0].response_logprobs == row.response_logprobs == [0.0]
        table = list_of_dict_to_tensordict([one.as_dict() for one in (*rows, *failed)])
        assert table["rollout_log_probs"].size(0) == len(rows) + 1
    else:
        assert row.response_logprobs is None


# tags of names of their own


@pytest.fixture
def search_qa(tmp_path):
    """Settings of a small search task."""
    folder = tmp_path / "search_qa"
    folder.mkdir()
    texts = ('"Port Elm"\nPort Elm is the capital of Lower Sedge.', '"Mill"\nA mill grinds wheat.')
    lines = [json.dumps({"id": str(number), "contents": text}) for number, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    lines = [
        json.dumps({"id": f"q{n}", "question": f"what is {word}", "golden_answers": [answer]})
        for n, (word, answer) in enumerate((("the capital of Lower Sedge", "Port Elm"), ("ground by a mill", "wheat")))
    ]
    (folder / "nq.jsonl").write_text("\n".join(lines))
    return {"kind": "search-qa", "data": str(folder), "search_qa": {"sets": ["nq"], "queries": 0, "answers": 0}}


@pytest.mark.parametrize("rollout", ["vllm", "sglang"])
def test_a_search_task_is_played_in_tags_and_answers_end_at_them(stage, search_qa, rollout):
    said = ["<search>capital Lower Sedge</search><information>It is Rome.", "<answer>port elm</answer> or not"]
    answers = iter(said)
    environment = make_environment(tiny_config(env=search_qa).env)
    own = stage(environment=environment, answer=lambda text: next(answers), env=search_qa)
    own.serve_by(rollout)
    (rows,) = own.play(own.session(5, "nq/q0"))
    (played,) = trajectories([rows])
    assert [turn.decision.action for turn in played.turns] == ["search[capital Lower Sedge]", "answer[port elm]"]
    assert played.success and [turn.admissible for turn in played.turns] == [True, True]
    assert "<search> ... </search>" in own.server.texts[0]
    assert "> <search>capital Lower Sedge</search>" in own.server.texts[1]
    for row, text, tag in zip(rows, said, ("</search>", "</answer>"), strict=True):
        written = own.tokenizer(text, add_special_tokens=False).input_ids
        kept = own.tokenizer.decode(row.response_ids)
        assert written[: len(row.response_ids)] == row.response_ids
        assert tag in kept and tag not in own.tokenizer.decode(row.response_ids[:-1])
        assert len(row.response_logprobs) == len(row.response_mask) == len(row.response_ids) < len(written)
    stops = ["</search>", "</answer>", "</action>"] if rollout == "vllm" else None
    assert [given.get("stop") for _, _, given in own.server.asked] == [stops, stops]


# arms and trajectories


def plain(task):
    """A task as it travels: what an environment's own class has beside the fields of Task stays where it is."""
    return Task(task.id, task.text, task.split, task.kind)


def local_groups(own, bank, tasks, on_trial=2):
    """Groups that the local engine plays with the same policy."""
    chat = ChatTokenizer(own.tokenizer, LM, [own.tokenizer.eos_token_id], PROMPT)

    class Same:
        count_tokens = staticmethod(chat.count_tokens)

        def act(self, prompts, seeds, temperature):
            said = [
                chat.decode(own.tokenizer(third(own.tokenizer.decode(chat.prompt_ids(p)))).input_ids) for p in prompts
            ]
            return [Decision(text, parse_action(text), (), ()) for text in said]

    return Rollouts(own.environment, Same(), bank, own.config.prompt, 5).groups(
        tasks, group_size=6, with_skills=4, temperature=1.0, seed=0, on_trial=on_trial
    )


@pytest.mark.parametrize("trial", [0.0, 0.3, 0.5])
def test_trajectories_are_those_of_the_local_engine(stage, trial):
    own = stage(bank={"trial": trial})
    bank = own.handle.actor._bank
    text = own.environment.start(TASKS[0]).task.text
    bank.insert([Draft("task", SkillText("New", "Try it.", "always"), text)], 1)
    seen = own.environment.start(TASKS[1])
    bank.insert([Draft("step", SkillText("Step", "Go on.", "now"), seen.task.text, seen.observation.text)], 1)
    groups = local_groups(own, bank, TASKS, on_trial={0.0: 0, 0.3: 2, 0.5: 2}[trial])
    played = own.play(*(own.session(number, task) for task in TASKS for number in range(6)))
    local = [one for group in groups for one in group.trajectories]
    assert trajectories(played) == [replace(t, task=plain(t.task)) for t in local]
    shown = [{skill.text.title for turn in t.turns for skill in turn.prompt.task_skills} for t in local]
    new = {"New"} if trial else set()
    assert shown[:6] == [{"Old 0"} | ({"New"} - new)] * 2 + [{"Old 0", "New"}] * 2 + [set()] * 2


def test_advice_is_asked_for_once_and_followed_as_by_the_local_engine(stage):
    own = stage(bank={"skills": "consolidated", "trial": 0.3})
    bank = own.handle.actor._bank
    seen = own.environment.start(TASKS[0])
    thing, go = seen.task.text.split()[2], seen.observation.actions[0].capitalize()
    take = SkillText("Take", f"Take {thing}.", "always")
    there = SkillText(f"{thing}: there", f"{go}, then take {thing}.", "always")
    procedure = Evidence("task", take, seen.task.text, "", {"a"})
    place = Evidence("step", there, thing, seen.observation.text, {"a"})
    bank.knowledge.consolidate([procedure, place], 1)
    groups = local_groups(own, bank, TASKS[:1])
    played = own.play(*(own.session(number) for number in range(6)))
    local = [one for group in groups for one in group.trajectories]
    assert trajectories(played) == [replace(t, task=plain(t.task)) for t in local]
    shown = [[skill.text.title for skill in t.turns[0].prompt.task_skills] for t in local]
    assert shown == [["Old 0"]] * 2 + [["Take"]] * 2 + [[]] * 2, "what is new is on trial"
    assert [t.turns[0].prompt.acts_done for t in local] == [0] * 4 + [-1] * 2
    assert [skill.text for skill in local[2].turns[0].prompt.step_skills] == [there]
    assert sum(own.handle.sizes) == 4, "once for each episode that has skills"


def test_in_validation_the_row_says_the_arm(stage):
    own = stage(bank={"trial": 1.0})
    text = own.environment.start(TASKS[0]).task.text
    own.handle.actor._bank.insert([Draft("task", SkillText("New", "Try it.", "always"), text)], 1)
    shown, bare = own.play(own.session(0, arm="skills"), own.session(0, arm="none"))
    shown, bare = trajectories([shown, bare])
    assert (shown.arm, shown.index, bare.arm, bare.index) == ("skills", 0, "none", 0)
    assert [skill.text.title for skill in shown.turns[0].prompt.task_skills] == ["Old 0"], "and none on trial"
    assert not any(turn.skill_ids for turn in bare.turns)


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (0.0, ["skills", "skills", "skills", "none", "none"]),
        (0.1, ["skills", "skills", "skills!", "none", "none"]),
        (1.0, ["skills!", "skills!", "skills!", "none", "none"]),
    ],
)
def test_arms_of_sessions(trial, expected):
    config = tiny_config(rollout={"group_size": 5, "with_skills": 3}, bank={"trial": trial})
    arms = [session_arm(config, session, "") for session in range(5)]
    assert [arm + "!" * on_trial for arm, on_trial in arms] == expected
    assert [session_arm(config, 0, arm) for arm in ("skills", "none")] == [("skills", False), ("none", False)]


# faults


def test_a_fault_of_the_environment_ends_its_episode_alone(stage):
    inner = make_environment(tiny_config(env={"kind": "houses"}).env)
    played = []

    def breaks(task, action):
        played.append(action)
        return task.id == TASKS[1] and len(played) > 4

    own = stage(environment=FaultyEnvironment(inner, breaks))
    whole, broken = own.play(own.session(0), own.session(0, TASKS[1]))
    first, second = trajectories([whole, broken])
    assert (first.fault, len(whole)) == ("", 5)
    assert second.fault == "EnvironmentFault: the lid fell"
    assert len(broken) == len(second.turns) < 5
    assert all(row.response_mask == [1] * len(row.response_ids) for row in broken)


def test_errors_of_server_actor_and_data_are_no_faults(stage):
    def gone(text):
        raise ConnectionError("the server is gone")

    own = stage(answer=gone)
    with pytest.raises(ConnectionError, match="the server is gone"):
        own.play(own.session(5))
    with pytest.raises(ConfigError, match="is no id of a house"):
        own.play(own.session(5, "nowhere"))

    def fails(queries):
        raise BankError("the bank is gone")

    own.handle.actor.retrieve, kept = fails, own.handle.actor.retrieve
    with pytest.raises(BankError, match="the bank is gone"):
        own.play(own.session(0))
    own.handle.actor.retrieve = kept


# retrieval


def test_episodes_that_wait_together_ask_in_one_call(stage):
    own = stage()
    own.play(*(own.session(number, task) for task in TASKS for number in range(6)))
    assert own.handle.sizes == [8] * 6, "the task skills of eight episodes, then the step skills of each of five steps"


def test_what_is_asked_while_a_call_is_on_its_way_makes_the_next_one():
    calls, may_answer = [], asyncio.Event()

    async def remote(queries):
        calls.append([query[1] for query in queries])
        await may_answer.wait()
        return [(query[1],) for query in queries]

    async def ask():
        retriever = Retriever(SimpleNamespace(retrieve=SimpleNamespace(remote=remote)))
        waiting = [asyncio.create_task(retriever.retrieve(("task", name, False))) for name in "ab"]
        await asyncio.sleep(0.01)
        for name in "cde":
            waiting.append(asyncio.create_task(retriever.retrieve(("task", name, False))))
            await asyncio.sleep(0.01)
        waiting.pop(2).cancel()
        may_answer.set()
        answers = await asyncio.gather(*waiting)
        return answers, await retriever.retrieve(("task", "f", False))

    assert asyncio.run(ask()) == ([("a",), ("b",), ("d",), ("e",)], ("f",))
    assert calls == [["a", "b"], ["c", "d", "e"], ["f"]]


# the model's words


def test_what_ends_a_text_is_found_without_the_weights(model, tmp_path):
    folder, tokenizer = model
    assert agent_loop._end_tokens(folder, tokenizer) == end_tokens(
        AutoModelForCausalLM.from_pretrained(folder), tokenizer
    )
    own = AutoModelForCausalLM.from_pretrained(folder)
    own.generation_config.eos_token_id = [tokenizer.eos_token_id, 5]
    own.save_pretrained(tmp_path)
    assert agent_loop._end_tokens(str(tmp_path), tokenizer) == end_tokens(own, tokenizer) == [tokenizer.eos_token_id, 5]
    (tmp_path / "generation_config.json").unlink()
    assert agent_loop._end_tokens(str(tmp_path), tokenizer) == [tokenizer.eos_token_id]
