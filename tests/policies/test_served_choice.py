"""Answers of a served model that a JSON schema holds to the admissible actions, and of one that does not keep to it."""

import json
from dataclasses import replace

import pytest
from chat_server import ChatServer
from toys import prompt

from d2skill.config import Config, EndpointConfig, ServedConfig
from d2skill.errors import RunError
from d2skill.planning.lengths import limit_lengths
from d2skill.policies.served import ServedPolicy
from d2skill.runs.trajectories import SavedTurn
from d2skill.types import Turn

pytest.importorskip("openai")

ODD = ('say "hello"', "open C:\\chest", "take the\tpearl", "go to the café", "say 你好 {x}", "half \ud800 a pair")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("d2skill.endpoints.chat_client._FIRST_WAIT", 0.001)
    with ChatServer(answer=last_action) as server:
        yield server


def listed_in(body) -> list[str]:
    return body["response_format"]["json_schema"]["schema"]["properties"]["action"]["enum"]


def last_action(body) -> str:
    return json.dumps({"action": listed_in(body)[-1]})


def made(server, answer="choice", answer_tokens=512, **endpoint) -> ServedPolicy:
    settings = EndpointConfig(model="toy", url=server.url, **{"retries": 0, "concurrency": 1} | endpoint)
    return ServedPolicy(ServedConfig(endpoint=settings, answer=answer, answer_tokens=answer_tokens))


def decided(policy, *actions, forms=()):
    (decision,) = policy.act([replace(prompt(actions=actions), forms=forms)], [3], 0.7)
    return decision


def chats(server):
    return [request.body for request in server.requests if request.path == "/v1/chat/completions"]


# asking


def test_the_admissible_actions_are_a_strict_schema(server):
    decision = decided(made(server), "open chest 1", "open chest 2")
    assert (decision.text, decision.action) == ("open chest 2", "open chest 2")
    (body,) = chats(server)
    form = body["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"action": {"type": "string", "enum": ["open chest 1", "open chest 2"]}},
        "required": ["action"],
        "additionalProperties": False,
    }
    assert (body["seed"], body["temperature"], body["logprobs"], body["top_logprobs"]) == (3, 0.7, True, 1)
    assert "stop" not in body and body["messages"][0]["content"].endswith('{"action": "..."}')


@pytest.mark.parametrize("action", ODD)
def test_characters_that_json_escapes_come_back_as_they_were(server, action):
    assert decided(made(server), "look", action).action == action


def test_a_long_list_is_given_whole(server, caplog):
    actions = [f'take "thing {number}" from a shelf that is far away' for number in range(3000)]
    assert decided(made(server), *actions).action == actions[-1]
    assert len(listed_in(chats(server)[0])) == 3000 and not caplog.text


@pytest.mark.parametrize(("actions", "forms"), [((), ()), ((), ("search[...]",)), (("back",), ("search[...]",))])
def test_where_more_is_admissible_than_can_be_listed_the_answer_is_free(server, actions, forms):
    server.answer = lambda body: "<action>search[red mug]"
    assert decided(made(server), *actions, forms=forms).action == "search[red mug]"
    assert "response_format" not in chats(server)[0]


def test_log_probabilities_are_recorded_where_they_come_back(server):
    def entries(*log_probs):
        return {"logprobs": {"content": [{"token": "x", "logprob": one, "id": n} for n, one in enumerate(log_probs)]}}

    policy = made(server)
    server.more = lambda body: entries(-0.5, -2.25)
    decision = decided(policy, "look")
    assert (decision.tokens, decision.log_probs) == ((0, 1), (-0.5, -2.25))
    server.more = lambda body: {"logprobs": {"content": [{"token": "x", "logprob": 1e-9}]}}
    decision = decided(policy, "look")
    assert (decision.tokens, decision.log_probs) == ((-1,), (0.0,))
    for broken in (entries(-0.5, float("nan")), {"logprobs": {"content": [{}]}}, {"logprobs": "none"}):
        server.more = lambda body, broken=broken: broken
        assert decided(policy, "look").log_probs == ()


def test_a_plan_reckons_with_short_answers():
    config = Config(policy={"kind": "served", "train": False, "served": {"answer": "choice"}})
    assert limit_lengths(config).answer < 20 < limit_lengths(Config(policy={"kind": "served", "train": False})).answer


# answers that do not keep to it


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('```json\n{"action": "look"}\n```', "look"),
        ("<action>look</action>", "look"),
        (" look\n", "look"),
        ('{"action": "fly"}', "fly"),
        ('{"action": 3}', ""),
        ("[" * 100_000, ""),
        ("I would look around first.", ""),
    ],
)
def test_an_answer_that_is_not_as_asked_is_read_as_far_as_it_goes(server, text, action):
    server.answer = lambda body: text
    assert decided(made(server), "look", "wait").action == action


def test_a_server_that_ignores_the_schema_is_named_once_after_the_first_answer(server, caplog):
    server.answer = lambda body: "I fly."
    policy = made(server)
    for _ in range(3):
        decided(policy, "look")
    (record,) = caplog.records
    assert record.getMessage() == (
        'toy was given the admissible actions as a JSON schema and answered "I fly.": its server does not keep to it; '
        "one with structured output does, and policy.served.answer free asks in words"
    )


def test_a_server_that_takes_no_schema_is_named_once_and_asked_without(server, caplog):
    server.formats, server.answer = (), lambda body: '{"action": "look"}'
    policy = made(server)
    assert [decided(policy, "look").action for _ in range(2)] == ["look", "look"]
    assert len(caplog.records) == 1
    assert "toy refuses a JSON schema of 1 actions, so that nothing holds its answers to them" in caplog.text
    assert len(chats(server)) == 4, "schema, JSON, words; then words at once"


def test_a_schema_that_is_too_large_is_left_out_for_its_own_prompt_only(server):
    server.refuse = lambda body: "too many enum values" if len(listed_in_or_none(body)) > 2 else ""
    server.answer = lambda body: last_action(body) if listed_in_or_none(body) else '{"action": "c"}'
    policy = made(server)
    assert [decided(policy, *actions).action for actions in ("ab", "abc", "ab")] == ["b", "c", "b"]
    assert [len(listed_in_or_none(body)) for body in chats(server)] == [2, 3, 0, 2]


def listed_in_or_none(body) -> list[str]:
    return listed_in(body) if body.get("response_format", {}).get("type") == "json_schema" else []


def test_log_probabilities_that_are_forbidden_are_left_out(server, caplog):
    server.refuse = lambda body: "logprobs are not supported with this model" if "logprobs" in body else ""
    policy = made(server)
    assert [decided(policy, "look", "wait").action for _ in range(2)] == ["wait", "wait"]
    assert len(chats(server)) == 3 and not caplog.text


@pytest.mark.parametrize("name", ["seed", "temperature"])
@pytest.mark.parametrize("answer", ["choice", "free"])
def test_what_a_server_does_not_honour_is_said_once(server, caplog, name, answer):
    server.refuse = lambda body: f"Unsupported value: '{name}'" if name in body else ""
    server.answer = lambda body: "<action>look" if answer == "free" else last_action(body)
    policy = made(server, answer)
    assert [decided(policy, "look").action for _ in range(2)] == ["look", "look"]
    assert len(caplog.records) == 1 and f"toy refuses a {name} and is asked without" in caplog.text


def test_an_answer_that_was_cut_off_is_said_with_the_way_out(server, caplog):
    server.behave = "truncated"
    assert decided(made(server, answer_tokens=16), "look").action == ""
    assert (
        "toy did not end an answer within policy.served.answer_tokens 16: a model that thinks needs more" in caplog.text
    )


# thinking


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("answer", ["choice", "free"])
def test_reasoning_that_comes_apart_is_kept_and_not_searched_for_an_action(server, field, answer):
    server.more = lambda body: {"message": {field: "Perhaps <action>wait</action>?"}}
    server.answer = lambda body: "<action>look" if answer == "free" else '{"action": "look"}'
    given = prompt(actions=("look", "wait"))
    (decision,) = made(server, answer).act([given], [0], 1.0)
    assert decision.action == "look"
    said = "<action>look</action>" if answer == "free" else "look"
    assert SavedTurn.of(Turn(given, decision, True)).answer == f"<think>Perhaps <action>wait</action>?</think>{said}"


@pytest.mark.parametrize("answer", ["choice", "free"])
@pytest.mark.parametrize("opening", ["<think>", ""])  # some templates open the thought themselves
def test_a_thought_before_the_answer_is_kept_and_not_searched_for_an_action(server, answer, opening):
    thought = opening + 'Perhaps {"action": "wait"} or <action>wait</action>?</think>'
    server.answer = lambda body: thought + ("nothing" if answer == "free" else '\n{"action": "look"}')
    decision = decided(made(server, answer), "look", "wait")
    assert decision.action == ("" if answer == "free" else "look")
    assert decision.text == thought + ("nothing" if answer == "free" else "look")


def test_a_model_that_thinks_though_it_should_not_is_named(server, caplog):
    server.answer = lambda body: '{"action": "look"}'
    policy = made(server, thinking=False)
    server.more = lambda body: {"message": {"reasoning_content": "Hm."}}
    for _ in range(2):
        decided(policy, "look")
    assert len(caplog.records) == 1
    assert "toy thinks, though policy.served.endpoint.thinking is false" in caplog.text


# a context that is too short


def test_prompts_that_do_not_fit_end_the_run_with_their_own_way_out(server):
    reason = "request (5031 tokens) exceeds the available context size (4096 tokens), try increasing it"
    policy = made(server)
    server.refuse = lambda body: reason
    with pytest.raises(RunError, match=r"5031 tokens.*serve it with a longer context.*a lower prompt.max_tokens"):
        policy.act([prompt(actions=("look",))] * 3, [0, 1, 2], 1.0)
    assert len(chats(server)) == 3, "a prompt that is too long is not sent again in another form"
