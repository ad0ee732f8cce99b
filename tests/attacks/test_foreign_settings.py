"""Settings that someone else wrote send no environment variable anywhere, and run no code of a model.

Each pair of variable and host is tried through each door by which settings of a file come in.
"""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from attacks.raw_server import RawServer, response
from commands import SMALL, fails

import d2skill
from d2skill.config import Config, EndpointConfig, key_hosts
from d2skill.config.cli_flags import parse_settings
from d2skill.config.overrides import load_config
from d2skill.config.toml_files import dump, load, parse, presets
from d2skill.endpoints import connect
from d2skill.errors import ConfigError

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
SECTIONS = ("reflect.endpoint", "embedder.endpoint", "policy.served.endpoint")


@pytest.fixture(autouse=True)
def person(monkeypatch, tmp_path):
    """A person with secrets in the environment, and no file of hosts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    monkeypatch.setenv(key_hosts.VARIABLE, "")
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OPENAI_API_KEY", "MY_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-person")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Gateway: {SECRET}")
    key_hosts._foreign.clear()
    key_hosts._denied.clear()


def toml_of(section: str, **endpoint: object) -> str:
    endpoint = {"model": "toy"} | endpoint
    lines = [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in endpoint.items())]
    return "\n".join(lines) + "\n"


def endpoint_of(config: Config, section: str) -> EndpointConfig:
    found: object = config
    for name in section.split("."):
        found = getattr(found, name)
    assert isinstance(found, EndpointConfig)
    return found


def from_config_file(text, section, tmp_path):
    (tmp_path / "theirs.toml").write_text(text)
    return load(str(tmp_path / "theirs.toml"))


def from_command_line(text, section, tmp_path):
    (tmp_path / "theirs.toml").write_text(text)
    return parse_settings(["--config", str(tmp_path / "theirs.toml"), "--seed", "3"], "d2skill train")


def from_run(text, section, tmp_path):
    (tmp_path / "theirs").mkdir(exist_ok=True)
    (tmp_path / "theirs" / "config.toml").write_text(text)
    return d2skill.Run.open(tmp_path / "theirs").config


def from_python(text, section, tmp_path):
    (tmp_path / "theirs.toml").write_text(text)
    return load_config(tmp_path / "theirs.toml", seed=3)


DOORS = [from_config_file, from_command_line, from_run, from_python]
PAIRS = [
    ("AWS_SECRET_ACCESS_KEY", "https://evil.example/v1"),
    ("GITHUB_TOKEN", "https://evil.example:8443/v1"),
    ("OPENAI_API_KEY", "https://evil.example/v1"),
    ("OPENAI_API_KEY", "https://api.openai.com.evil.example/v1"),
    ("OPENAI_API_KEY", "https://api.openai.com:8443/v1"),
    ("OPENAI_API_KEY", "https://api-openai.com/v1"),
    ("AWS_SECRET_ACCESS_KEY", "https://api.openai.com/v1"),
    ("AWS_SECRET_ACCESS_KEY", None),
    ("AWS_SECRET_ACCESS_KEY", "https://[2606:4700::1111]/v1"),
    ("AWS_SECRET_ACCESS_KEY", "https://93.184.216.34/v1"),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(("variable", "url"), PAIRS)
def test_a_file_sends_no_variable_to_a_server(door, section, variable, url, tmp_path):
    endpoint = {"key_env": variable} | ({"url": url} if url else {})
    config = door(toml_of(section, **endpoint), section, tmp_path)
    with pytest.raises(ConfigError) as said:
        connect(endpoint_of(config, section), f"--{section}")
    host = key_hosts.host_of(url)
    line = f'"{host}".{variable} = true'
    assert all(part in str(said.value) for part in (f"${variable}", host, line, "keys.toml"))
    assert SECRET not in str(said.value)
    (tmp_path / "own" / "d2skill").mkdir(parents=True)
    (tmp_path / "own" / "d2skill" / "keys.toml").write_text(line)
    assert connect(endpoint_of(config, section)).api_key == SECRET, "the way out works"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_server_that_needs_no_key_gets_nothing_of_the_person(door, section, variable, tmp_path):
    with RawServer(lambda connection, closing: connection.sendall(response("{}"))) as server:
        config = door(toml_of(section, key_env=variable, url=server.url), section, tmp_path)
        connect(endpoint_of(config, section)).models.with_raw_response.list()
        (request,) = server.seen
    assert SECRET.encode() not in request and b"org-of-the-person" not in request


@pytest.mark.parametrize("flag", ["url", "key-env", "both"])
@pytest.mark.parametrize("section", SECTIONS)
def test_flags_say_where_a_key_goes(section, flag, tmp_path):
    (tmp_path / "theirs.toml").write_text(toml_of(section, key_env="MY_KEY", url="https://models.example/v1"))
    flags = ["--config", str(tmp_path / "theirs.toml")]
    flags += [f"--{section}.url=https://mine.example/v1"] if flag != "key-env" else []
    flags += [f"--{section}.key-env", "GITHUB_TOKEN"] if flag != "url" else []
    endpoint = endpoint_of(parse_settings(flags, "d2skill train"), section)
    if flag == "both":
        assert connect(endpoint).api_key == SECRET
    else:
        with pytest.raises(ConfigError, match="is not sent"):
            connect(endpoint)


@pytest.mark.parametrize("section", SECTIONS)
def test_what_a_person_says_is_enough(section, tmp_path, monkeypatch):
    url = "https://models.example/v1"
    said = {
        "flags": lambda: parse_settings([f"--{section}.url", url, f"--{section}.key-env", "MY_KEY"], "d2skill train"),
        "a flag and the default": lambda: parse_settings([f"--{section}.url", url], "d2skill train"),
        "python": lambda: load_config("laptop", **{f"{section}.url": url, f"{section}.key_env": "MY_KEY"}),
    }
    for way, make in said.items():
        assert connect(endpoint_of(make(), section).model_copy(update={"model": "toy"})).api_key == SECRET, way
    assert connect(EndpointConfig(model="toy")).api_key == SECRET, "OpenAI's own key for OpenAI"
    monkeypatch.setenv(key_hosts.VARIABLE, "MY_KEY@other.example")
    config = from_config_file(toml_of(section, key_env="MY_KEY", url="https://other.example/v1"), section, tmp_path)
    assert connect(endpoint_of(config, section)).api_key == SECRET, "the environment"


def test_presets_name_no_server():
    for name in presets():
        for section in SECTIONS:
            assert endpoint_of(load(name), section).url is None
    assert not key_hosts._foreign


def test_a_training_remembers_what_was_said_for_it(tmp_path):
    config = Config(
        reflect={"kind": "llm", "endpoint": {"model": "toy", "url": "https://models.example/v1", "key_env": "MY_KEY"}}
    )
    key_hosts.decide_keys(config)
    file = tmp_path / "own" / "d2skill" / "keys.toml"
    assert '"models.example".MY_KEY = true' in file.read_text()
    key_hosts.decide_keys(config)
    assert file.read_text().count("MY_KEY") == 1
    os.environ[key_hosts.VARIABLE] = ""  # another process, later
    again = parse(dump(config), "run/config.toml", of_run=True)
    assert connect(again.reflect.endpoint).api_key == SECRET
    key_hosts.decide_keys(parse(toml_of("embedder.endpoint", key_env="MY_KEY", url="https://evil.example"), "x"))
    assert "evil" not in file.read_text()


@pytest.mark.parametrize(
    "text", ["not toml", '"a.example" = 3', "[", '"a.example".MY_KEY = true\n"a.example".MY_KEY = true', "\x00"]
)
def test_a_broken_file_of_hosts_is_said(text, tmp_path):
    (tmp_path / "own" / "d2skill").mkdir(parents=True)
    (tmp_path / "own" / "d2skill" / "keys.toml").write_text(text)
    config = parse(toml_of("reflect.endpoint", key_env="MY_KEY", url="https://models.example"), "x")
    with pytest.raises(ConfigError, match=r"keys\.toml cannot be read"):
        connect(config.reflect.endpoint)


def test_a_line_with_false_refuses(tmp_path):
    (tmp_path / "own" / "d2skill").mkdir(parents=True)
    (tmp_path / "own" / "d2skill" / "keys.toml").write_text('"models.example".MY_KEY = false')
    config = parse(toml_of("reflect.endpoint", key_env="MY_KEY", url="https://models.example"), "x")
    with pytest.raises(ConfigError, match="is not sent"):
        connect(config.reflect.endpoint)


@pytest.mark.parametrize(
    "name", ["", "A B", "A=B", "A\nB", "\x1b[31m", "sk-proj-abc", "a.b", "$HOME", "1A", "A\u202eB", '"x"', "A,B@c"]
)
def test_a_variable_has_the_name_of_one(name):
    with pytest.raises(ConfigError, match="name of an environment variable") as said:
        parse(toml_of("reflect.endpoint", key_env=name), "theirs.toml")
    assert not name or name not in str(said.value).removeprefix("theirs.toml")


@pytest.mark.parametrize(
    "url",
    [
        'https://a".b/v1',
        "https://a,MY_KEY@b/v1",
        "https://a b/v1",
        "https://a\nb",
        "https://a]=1/",
        "https://ü.example",
    ],
)
def test_a_host_cannot_write_into_the_file_of_hosts(url, tmp_path):
    config = parse(toml_of("reflect.endpoint", key_env="MY_KEY", url=url) + '[reflect]\nkind = "llm"', "theirs.toml")
    key_hosts.allow("MY_KEY", url)
    key_hosts.decide_keys(config)
    assert all(re.fullmatch(r"[a-z.]+", host) and variable == "MY_KEY" for variable, host in key_hosts._own_lines())
    with pytest.raises(ConfigError):
        connect(config.reflect.endpoint)


# whole commands


def test_evaluate_of_a_received_run_sends_nothing(tmp_path, capsys):
    from d2skill.cli.main import main

    main(["train", *SMALL, "--train.iterations", "1", "--out", str(tmp_path / "run")])
    capsys.readouterr()
    with RawServer(lambda connection, closing: connection.sendall(response("{}"))) as server:
        file = tmp_path / "run" / "config.toml"
        config = load_config(
            tmp_path / "run", **{"policy.kind": "served", "policy.train": False, "policy.served.endpoint.model": "toy"}
        )
        for url in (server.url.replace("http:", "https:").replace("127.0.0.1", "evil.example"), server.url):
            endpoint = config.policy.served.endpoint.model_copy(update={"key_env": "GITHUB_TOKEN", "url": url})
            served = config.policy.served.model_copy(update={"endpoint": endpoint})
            file.write_text(
                dump(config.model_copy(update={"policy": config.policy.model_copy(update={"served": served})}))
            )
            key_hosts._foreign.clear()
            os.environ[key_hosts.VARIABLE] = ""
            said = fails(capsys, "evaluate", tmp_path / "run")
            assert SECRET not in said
            if "evil" in url:
                assert "$GITHUB_TOKEN is not sent to evil.example" in said
        assert server.seen and not any(SECRET.encode() in request for request in server.seen)


@pytest.mark.parametrize("answer", ["n", "", "y", "a"])
def test_a_person_at_a_terminal_is_asked_once(answer, tmp_path):
    code = (
        "from d2skill.config.toml_files import load\n"
        "from d2skill.endpoints import connect\n"
        "from d2skill.errors import ConfigError\n"
        f"endpoint = load({str(tmp_path / 'theirs.toml')!r}).reflect.endpoint\n"
        "for _ in range(2):\n"
        "    try:\n        print('sent' if connect(endpoint).api_key != 'none' else 'kept')\n"
        "    except ConfigError as error:\n        print('refused')\n"
    )
    (tmp_path / "theirs.toml").write_text(toml_of("reflect.endpoint", key_env="MY_KEY", url="https://models.example"))
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=follower, stderr=follower, stdout=subprocess.PIPE, text=True
    )
    os.write(leader, f"{answer}\n".encode())
    said, _ = process.communicate(timeout=60)
    asked = os.read(leader, 10_000).decode()
    os.close(leader)
    os.close(follower)
    assert said.split() == [{"n": "refused", "": "refused"}.get(answer, "sent")] * 2
    assert asked.count("Send it?") == 1 and "$MY_KEY" in asked and "models.example" in asked
    assert (tmp_path / "own" / "d2skill" / "keys.toml").exists() == (answer == "a")


# models


def test_every_model_is_loaded_without_its_code():
    loaders = {"from_pretrained", "from_config", "_from_config"}
    found = []
    for path in Path(d2skill.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in loaders:
                owner = ast.unparse(node.func.value)
                if "Auto" in owner or "GenerationConfig" in owner:
                    options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                    found.append((path.name, owner, options.get("trust_remote_code")))
    assert len(found) >= 7 and {said for *_, said in found} == {"False"}, found


@pytest.mark.parametrize(
    "option",
    [
        "actor_rollout_ref.model.trust_remote_code=True",
        "+actor_rollout_ref.model.trust_remote_code=true",
        "data.trust_remote_code='true'",
        "++data.trust_remote_code=1",
        "actor_rollout_ref.model={path:x,trust_remote_code:true}",
    ],
)
def test_options_of_verl_run_no_code_of_a_model(option):
    with pytest.raises(ConfigError, match="no code of a model is run"):
        parse(f"[verl]\noptions = [{json.dumps(option)}]", "theirs.toml")


def test_a_model_with_code_of_its_own_does_not_run_it(tmp_path):
    pytest.importorskip("transformers")
    from d2skill.config import EmbedderConfig
    from d2skill.embedders import make_embedder
    from d2skill.policies.causal_lm.loading import describe_model, read_tokenizer

    model = tmp_path / "model"
    model.mkdir()
    classes = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer"), "evil.Evil")
    (model / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": classes}))
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    for use in (
        lambda: describe_model(str(model)),
        lambda: read_tokenizer(str(model)),
        lambda: make_embedder(EmbedderConfig(kind="transformers", model=str(model), cache="none")),
    ):
        with pytest.raises((ConfigError, OSError, ValueError)):
            use()
    assert not (tmp_path / "ran").exists()


def test_a_run_records_the_revision_of_a_model_of_the_hub(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    from d2skill.planning.model_shapes import hub_revisions

    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub" / "models--someone--small"
    (cache / "snapshots" / commit).mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    config = Config(
        policy={"kind": "causal-lm", "lm": {"model": "someone/small"}},
        embedder={"kind": "transformers", "model": "someone/small"},
    )
    wanted = {"model": "someone/small", "revision": commit}
    assert hub_revisions(config) == {"policy.lm.model": wanted, "embedder.model": wanted}
    assert not hub_revisions(Config(policy={"kind": "causal-lm", "lm": {"model": str(tmp_path)}}))
    assert not hub_revisions(Config())


@pytest.mark.parametrize("said", ['"false"', '"true"', "0", "1", "[]", "{}", "2020-01-01"])
def test_a_line_of_keys_says_true_or_false_and_nothing_else(said, tmp_path):
    file = tmp_path / "own" / "d2skill" / "keys.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'"models.example".MY_KEY = {said}\n')
    with pytest.raises(ConfigError, match="neither true nor false"):
        connect(EndpointConfig(model="toy", url="https://models.example/v1", key_env="MY_KEY"))
