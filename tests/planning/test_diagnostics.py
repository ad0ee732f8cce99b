"""Diagnoses of good and bad machines and servers, the exit status of doctor, and secrets that are never shown."""

import importlib
import json
import sys
import threading
from importlib import import_module, metadata
from importlib.util import find_spec

import pytest
from chat_server import ChatServer

from d2skill.cli.main import main
from d2skill.config import Config, HousesConfig, toml_files
from d2skill.envs.houses import generate
from d2skill.planning import diagnostics
from d2skill.planning.diagnostics import Diagnosis

SECRET = "sk-very-secret-4711"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A machine without data, keys or models."""
    for name in ("ALFWORLD_DATA", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(diagnostics, "_USUAL_DATA", (str(tmp_path / "usual"),))


def found(config, check):
    """Returns the lines of one check by what they are about."""
    return {line.subject: line for line in diagnostics._run_check(check, diagnostics.CHECKS[check], config)}


def reflecting(url, model="toy", **given):
    endpoint = {"url": url, "model": model, "key_env": "OPENAI_API_KEY", **given}
    return Config.model_validate({"reflect": {"kind": "llm", "endpoint": endpoint}})


class Hidden:
    """A finder that says of some packages that they are not there."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def without(monkeypatch, *names):
    version, find_spec = metadata.version, importlib.util.find_spec
    for module in [name for name in sys.modules if name.split(".")[0] in names]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Hidden(names), *sys.meta_path])

    def versions(name):
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(diagnostics.metadata, "version", versions)
    monkeypatch.setattr(diagnostics, "find_spec", lambda name: None if name in names else find_spec(name))


def test_the_default_needs_nothing_that_is_missing(capsys):
    main(["doctor"])
    said = capsys.readouterr().out
    assert "Nothing that these settings need is missing." in said
    assert all(what in said for what in ("Python", "numpy", "torch (train)", "CPU cores", "memory", "run folder"))
    assert "ALFWorld data" in said and "optional" in said


def test_without_torch_it_is_told_and_never_imported(monkeypatch, capsys):
    without(monkeypatch, "torch", "transformers")
    lines = found(Config(), "packages")
    assert lines["torch (train)"].status == "optional" and lines["numpy"].status == "found"
    gpu = found(Config(), "GPU")["GPU"]
    assert gpu.status == "optional" and "torch" not in sys.modules
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--config", "laptop-lm"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "pip install 'd2skill[train]'" in said and "Missing: " in said and "Traceback" not in said


def test_a_package_that_is_too_old_or_broken_is_told(monkeypatch):
    monkeypatch.setattr(
        diagnostics.metadata, "requires", lambda _: ["numpy>=99", "rich>=1", "openai>=2 ; extra == 'llm'"]
    )
    lines = found(Config(), "packages")
    assert lines["numpy"].status == "missing" and "pip install -U 'numpy>=99'" in lines["numpy"].fix
    assert lines["rich"].status == "found" and lines["openai (llm)"].status == "found"
    monkeypatch.setattr(diagnostics, "find_spec", lambda name: None)
    assert "cannot be found" in found(Config(), "packages")["rich"].detail


def test_a_torch_that_fails_is_a_line(monkeypatch):
    def broken(name):
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(diagnostics, "import_module", broken)
    line = found(toml_files.load("laptop-lm"), "GPU")["GPU"]
    assert line.status == "missing" and "libcudart" in line.detail
    assert found(Config(), "GPU")["GPU"].status == "optional"


@pytest.mark.parametrize(("paces", "said"), [((9, 4), "float32 is faster"), ((4, 9), "9 GFLOP/s in bfloat16")])
def test_the_paces_of_a_cpu_say_whether_bfloat16_is_slower(monkeypatch, paces, said):
    torch = pytest.importorskip("torch")
    measured = diagnostics._cpu_paces(torch)
    assert measured.keys() == {"float32", "bfloat16"} and min(measured.values()) > 0
    monkeypatch.setattr(diagnostics, "_cpu_paces", lambda _: dict(zip(measured, paces, strict=True)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    detail = found(toml_files.load("laptop-lm"), "GPU")["CPU pace"].detail
    assert said in detail and ("float32 is faster" in detail) is (paces[1] < paces[0])
    assert "CPU pace" not in found(Config(), "GPU")


def test_a_check_that_hangs_is_given_up(monkeypatch):
    held = threading.Event()

    def hangs(config):
        yield Diagnosis("first", "found", "quick")
        held.wait()

    monkeypatch.setattr(diagnostics, "_CHECK_SECONDS", 0.05)
    lines = diagnostics._run_check("slow one", hangs, Config())
    held.set()
    assert [line.status for line in lines] == ["found", "missing"] and "no answer" in lines[-1].detail


@pytest.mark.parametrize(
    ("have", "wanted", "fits"),
    [("2.0", ">=2", True), ("2.13.0+cpu", ">=2.6", True), ("1.9", ">=1.10", False), ("3.0", ">=2,<3", False)],
)
def test_versions_are_compared_as_numbers(monkeypatch, have, wanted, fits):
    monkeypatch.setattr(diagnostics.metadata, "requires", lambda _: [f"numpy{wanted}"])
    monkeypatch.setattr(diagnostics.metadata, "version", lambda _: have)
    assert (found(Config(), "packages")["numpy"].status == "found") is fits


def test_a_package_may_be_imported_by_another_name(monkeypatch):
    monkeypatch.setattr(diagnostics.metadata, "requires", lambda _: ["PyYAML>=6", "tomli-w>=1"])
    assert {line.status for line in found(Config(), "packages").values()} == {"found"}


def test_packages_of_other_extras_are_left_out(monkeypatch):
    requires = ["ray>=2; extra == 'verl'", "d2skill[llm,train]; extra == 'verl'", "peft>=99; extra == 'train'"]
    monkeypatch.setattr(diagnostics.metadata, "requires", lambda _: requires)
    assert list(found(Config(), "packages")) == ["peft (train)"]


def test_a_server_that_knows_the_model_is_found_and_no_key_is_shown(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with ChatServer() as server:
        server.key = SECRET
        line = found(reflecting(server.url), "endpoints")["reflect.endpoint"]
        assert line.status == "found" and "$OPENAI_API_KEY is set" in line.detail
        file = tmp_path / "own.toml"
        file.write_text(toml_files.dump(reflecting(server.url)))
        main(["doctor", "--config", str(file)])
        monkeypatch.setenv("OPENAI_API_KEY", SECRET + "-wrong")
        with pytest.raises(SystemExit):
            main(["doctor", "--config", str(file)])
    said = capsys.readouterr()
    assert "refuses the key" in said.out and SECRET not in said.out + said.err


def test_a_server_that_repeats_the_key_is_not_quoted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert SECRET not in diagnostics._without_keys(f"bad key {SECRET} was given")
    monkeypatch.setenv("LAB_SERVER", SECRET + "-2")
    assert SECRET not in diagnostics._without_keys(f"bad {SECRET}-2", "LAB_SERVER")

    def leaks(config):
        raise ValueError(f"header {SECRET} refused")
        yield

    lines = diagnostics._run_check("leaking", leaks, Config())
    assert len(lines) == 1 and SECRET not in str(lines)


@pytest.mark.parametrize("behaviour", ["hang", "drip", "500", "drop", "html", "404"])
def test_a_server_that_misbehaves_is_missing_with_a_way_out(monkeypatch, behaviour):
    monkeypatch.setattr(diagnostics, "_ENDPOINT_SECONDS", 0.3)
    with ChatServer() as server:
        server.models = False
        server.behave = behaviour
        line = found(reflecting(server.url), "endpoints")["reflect.endpoint"]
    assert line.status == "missing"
    assert "not set" in line.detail and "Traceback" not in line.detail


def test_endpoints_that_are_not_there_or_not_needed():
    line = found(reflecting("http://127.0.0.1:9/v1"), "endpoints")["reflect.endpoint"]
    assert line.status == "missing" and "start the server" in line.fix
    lines = found(Config(), "endpoints").values()
    assert {line.status for line in lines} == {"optional"}
    line = found(reflecting(None, "gpt"), "endpoints")["reflect.endpoint"]
    assert line.status == "missing" and "$OPENAI_API_KEY is not set" in line.detail


def test_games_are_counted_by_split(tmp_path, monkeypatch):
    def data(**given):
        return found(Config.model_validate({"env": {"kind": "alfworld", **given}}), "ALFWorld data")

    assert data()["ALFWorld data"].status == "missing"
    assert "--data" in data(data=tmp_path / "nowhere")["ALFWorld data"].fix
    games = tmp_path / "usual" / "json_2.1.1"
    for number in range(2):
        file = games / "train" / "pick_and_place_simple-Mug-None-Desk-1" / f"trial_{number}" / "game.tw-pddl"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(generate(HousesConfig(), "train", number)))
    assert str(tmp_path / "usual") in data()["ALFWorld data"].fix
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "usual"))
    lines = data()
    assert lines["ALFWorld train"].detail.startswith("2 games")
    assert lines["ALFWorld valid_seen"].status == "missing"
    assert lines["ALFWorld valid_unseen"].status == "optional"
    assert found(Config(), "ALFWorld data")["ALFWorld valid_seen"].status == "optional"


def test_models_are_looked_for_and_not_downloaded(tmp_path):
    def model(name):
        policy = {"kind": "causal-lm", "lm": {"model": name}}
        return found(Config.model_validate({"policy": policy}), "models")["policy.lm.model"]

    complete = find_spec("torch") and find_spec("transformers")
    if complete:  # the import alone can take longer than a check may
        import_module("d2skill.policies.causal_lm.loading")
    assert model("tiny").status == "found"
    assert model("Qwen/Qwen2.5-7B-Instruct").fix == "hf download Qwen/Qwen2.5-7B-Instruct"
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    assert "no weights" in model(str(tmp_path)).detail
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "is cut off, it has 0 bytes" in model(str(tmp_path)).detail
    (tmp_path / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    assert model(str(tmp_path)).status == "found"
    if complete:
        assert model(str(tmp_path)).detail == f"{tmp_path}: Qwen2ForCausalLM"
        (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
        assert "read one by one, which is slow" in model(str(tmp_path)).detail
        (tmp_path / "config.json").write_text('{"model_type": "t5"}')
        assert "is of the type t5" in model(str(tmp_path)).detail


def test_doctor_looks_at_a_model_that_is_named(tmp_path):
    from d2skill.cli.doctor import doctor

    missing = doctor(model=str(tmp_path / "nothing.gguf")).record
    assert "policy.lm.model" in missing["missing"]
    assert any("is no file" in line.detail for line in missing["things"] if line.subject == "policy.lm.model")
    assert not found(Config(), "models")


def test_a_full_disk_and_a_cache_that_cannot_be_written_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(diagnostics, "_DISK_WANTED", 1e30)
    assert "--out" in found(Config(), "disk")["run folder"].fix

    def refuse(**given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(diagnostics.tempfile, "TemporaryFile", refuse)
    assert found(Config(), "disk")["cache of vectors"].status == "optional"


def test_the_files_of_webshop_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)

    def data(**given):
        return found(Config.model_validate({"env": {"kind": "webshop", **given}}), "WebShop data")["WebShop data"]

    assert data().status == "missing" and "WEBSHOP_DATA" in data().fix
    assert found(Config(), "WebShop data")["WebShop data"].status == "optional"
    lacking = data(data=tmp_path)
    assert lacking.status == "missing" and "items_shuffle_1000.json" in lacking.detail and "setup.sh" in lacking.fix
    for name in ("items_shuffle_1000", "items_ins_v2_1000", "items_human_ins"):
        (tmp_path / f"{name}.json").write_text("[]")
    assert data(data=tmp_path).status == "found"
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    assert data().status == "found"


def test_verl_is_needed_where_it_is_the_engine_and_its_version_told(monkeypatch):
    without(monkeypatch, "verl")
    monkeypatch.setattr("d2skill.verl.checks.version", diagnostics.metadata.version)
    missing = found(Config(engine="verl"), "verl")["verl"]
    assert missing.status == "missing" and "not installed" in missing.detail and "pip install" in missing.fix
    assert found(Config(), "verl")["verl"].status == "optional"

    monkeypatch.setattr("d2skill.verl.checks.version", lambda name: "0.8.2")
    old = found(Config(engine="verl"), "verl")["verl"]
    assert old.status == "missing" and "0.8.2" in old.detail
