"""A server's account of its model is compared with what a run assumes: its name, its context, the fields it takes."""

import pytest
from chat_server import ChatServer

from d2skill.config import Config, EmbedderConfig, EndpointConfig, ServedConfig
from d2skill.config.cli_flags import parse_settings
from d2skill.embedders import make_embedder
from d2skill.endpoints import ChatClient, Room, check, connect
from d2skill.errors import ConfigError

LLAMA = {"id": "/models/SmolLM2-135M.gguf", "aliases": ["small"], "object": "model", "owned_by": "llamacpp"}
OLLAMA = {"id": "toy", "object": "model", "owned_by": "library"}


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def checked(server, model="toy", room=None, route="chat", **fields):
    settings = EndpointConfig(model=model, url=server.url, retries=0, **fields)
    check(connect(settings, "--e"), settings, "--e", route, room)


def room(prompt=4096, answer=512) -> Room:
    return Room(prompt, answer, "prompt.max_tokens", "policy.served.answer_tokens")


# names


def test_a_name_that_llama_cpp_answers_to_like_any_other_is_refused():
    with ChatServer(listed=[LLAMA | {"id": "toy"}], any_name=True) as server:
        for name in ("toy", "small"):
            checked(server, name)
        with pytest.raises(ConfigError, match=r'has no model "gpt-oss": llama.cpp answers .* toy; set --e.model toy'):
            checked(server, "gpt-oss")


def test_a_name_that_is_part_of_the_models_may_be_right(caplog):
    with ChatServer(listed=[LLAMA | {"id": "toy"}], any_name=True) as server:
        checked(server, "/models/To_Y.v2")
    assert (
        'lists no model "/models/To_Y.v2" and answers with toy: if that is another one, set --e.model toy'
        in caplog.text
    )


@pytest.mark.parametrize("route", ["chat", "embeddings"])
def test_another_server_may_know_a_model_by_two_names(route, caplog):
    with ChatServer(any_name=True) as server:
        server.answer = lambda body: "yes"
        checked(server, "my-deployment", route=route)
    assert ("answers with toy" in caplog.text) == (route == "chat"), "the test server embeds under any name"


# contexts


@pytest.mark.parametrize(
    ("entry", "routes"),
    [
        ({"id": "toy", "owned_by": "vllm", "max_model_len": 4096}, {}),
        (LLAMA | {"id": "toy", "meta": {"n_ctx": 4096, "n_ctx_train": 8192}}, {}),
        (
            LLAMA | {"id": "toy", "meta": {"n_ctx_train": 8192}},
            {"/props": {"default_generation_settings": {"n_ctx": 4096}}},
        ),
        (OLLAMA, {"/api/ps": {"models": [{"name": "toy:latest", "context_length": 4096}]}}),
        (OLLAMA, {"/api/ps": {"models": []}, "/api/show": {"parameters": "temperature 1\nnum_ctx     4096"}}),
        (
            {"id": "toy", "owned_by": "organization_owner"},
            {"/api/v0/models": {"data": [{"id": "toy", "loaded_context_length": 4096}]}},
        ),
        ({"id": "toy", "context_length": 4096}, {}),
    ],
)
def test_the_context_that_a_server_has_is_compared_with_prompt_and_answer(entry, routes, caplog):
    fate = "cut without a word" if entry is OLLAMA else "refused"
    with ChatServer(listed=[entry], routes=routes) as server:
        checked(server, room=room(3584, 512))
        assert not caplog.records
        checked(server, room=room(4096, 512))
        (record,) = caplog.records
        assert "has a context of 4,096 tokens for toy, but prompt.max_tokens is 4,096" in record.getMessage()
        assert record.getMessage().endswith("set prompt.max_tokens to 3584")
        caplog.clear()
        checked(server, room=room(3584, 4000))
        assert caplog.messages[0].endswith("longer prompts are " + fate + "; serve it with a longer context")
        with pytest.raises(ConfigError, match=r"4,096 tokens for toy, and policy.served.answer_tokens alone is 4,096"):
            checked(server, room=room(0, 4096))


def test_ollama_that_does_not_say_its_context_is_warned_of(caplog):
    with ChatServer(listed=[OLLAMA]) as server:
        checked(server, room=room(3000, 512))
        assert not caplog.records
        checked(server, room=room())
    assert "is Ollama, which cuts prompts" in caplog.text and "OLLAMA_CONTEXT_LENGTH=4608" in caplog.text


@pytest.mark.parametrize("entry", [{"id": "toy"}, {"id": "toy", "max_model_len": "long", "meta": 3, "aliases": [None]}])
def test_a_server_that_says_nothing_is_believed(entry, caplog):
    with ChatServer(listed=[entry, {"id": "other", "max_model_len": 5}]) as server:
        checked(server, room=room())
    assert not caplog.records


# fields of the user's own


def test_extra_fields_and_thinking_are_in_every_request():
    extra = {"top_p": 0.9, "chat_template_kwargs": {"tools": False}}
    with ChatServer(answer=lambda body: "yes") as server:
        settings = EndpointConfig(model="toy", url=server.url, extra=extra, thinking=False)
        client = connect(settings)
        check(client, settings)
        ChatClient(client, settings).complete([{"role": "user", "content": "?"}], tokens=5)
        bodies = [request.body for request in server.requests if request.body]
    assert len(bodies) == 2, "the check asks, since the server may refuse them"
    for body in bodies:
        assert body["top_p"] == 0.9
        assert body["chat_template_kwargs"] == {"tools": False, "enable_thinking": False}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra": {"top_q": 1}}, "--e.extra"),
        ({"thinking": False}, "--e.thinking"),
        ({"extra": {"top_q": 1}, "thinking": True}, "--e.extra and --e.thinking"),
    ],
)
def test_fields_that_a_server_refuses_are_named_at_the_start(fields, named):
    sentence = f"refuses {named} .*Unrecognized request argument.*leave out"
    with (
        ChatServer(refuse=lambda body: "Unrecognized request argument") as server,
        pytest.raises(ConfigError, match=sentence),
    ):
        checked(server, **fields)


def test_extra_fields_go_to_an_embedder_too_and_are_part_of_its_name():
    with ChatServer() as server:
        endpoint = EndpointConfig(model="toy", url=server.url, extra={"dimensions": 32})
        made = make_embedder(EmbedderConfig(kind="openai", endpoint=endpoint, cache="none"))
        made.embed(["a mug"])
        assert made.fingerprint == 'openai/toy/32/{"dimensions": 32}'
        assert all(request.body["dimensions"] == 32 for request in server.requests if request.body)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--reflect.endpoint.extra.model", "x"], "the extra field model of an endpoint cannot be set"),
        (["--policy.served.endpoint.extra.seed", "1"], "the extra field seed .*each decision has its own"),
        (["--policy.served.endpoint.extra.temperature", "1"], "it is rollout.temperature"),
        (["--embedder.endpoint.thinking", "true"], "embedder.endpoint.thinking is for a model that chats"),
        (
            [
                "--reflect.endpoint.thinking=true",
                "--reflect.endpoint.extra.chat-template-kwargs.enable_thinking",
                "true",
            ],
            "an endpoint has thinking and extra.chat_template_kwargs, which says the same",
        ),
    ],
)
def test_fields_that_a_run_sets_itself_are_refused(flags, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_settings(flags, "d2skill train")


@pytest.mark.parametrize(
    ("flags", "thinking"),
    [
        ([], None),
        (["--policy.served.endpoint.thinking", "false"], False),
        (["--policy.served.endpoint.thinking=true"], True),
        (["--policy.served.endpoint.thinking", "None"], None),
    ],
)
def test_thinking_is_true_false_or_left_to_the_server(flags, thinking):
    config: Config = parse_settings([*flags, "--reflect.endpoint.extra.temperature", "0.3"], "d2skill train")
    assert config.policy.served.endpoint.thinking is thinking
    assert config.reflect.endpoint.request_fields == {"temperature": 0.3}
    assert ServedConfig().endpoint.request_fields == {}
