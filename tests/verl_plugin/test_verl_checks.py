import json
import os
from importlib.metadata import PackageNotFoundError

import pytest

from d2skill.config import Config
from d2skill.config.toml_files import load
from d2skill.errors import ConfigError
from d2skill.runs.folder import RunFolder
from d2skill.verl import checks
from d2skill.verl.checks import require_devices, require_shardable, require_shared, require_verl

TASKS = {"training": {"split": "train", "task_ids": ["a"]}, "validation": {"split": "valid", "task_ids": ["b"]}}


def settings(**verl) -> Config:
    tree = load("alfworld-verl").model_dump()
    tree["verl"] |= verl
    return Config.model_validate(tree)


# the installation


def install(monkeypatch, found, without=()):
    def version(name):
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(checks, "version", version)
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name in without else object())


@pytest.mark.parametrize("found", ["0.9.0", "0.9.1", "0.9.12.post1", "0.9"])
def test_the_verl_that_this_is_for_is_let_through(found, monkeypatch):
    install(monkeypatch, found)
    require_verl()


@pytest.mark.parametrize("found", ["0.8.2", "0.10.0", "0.10.0.dev0", "1.0", "1.9.0", "0"])
def test_another_verl_is_refused_by_its_version(found, monkeypatch):
    install(monkeypatch, found)
    with pytest.raises(ConfigError, match=rf"needs verl 0\.9, and {found} is installed.*constraints-verl\.txt"):
        require_verl()


def test_no_verl_is_told_with_what_to_install(monkeypatch):
    install(monkeypatch, None)
    with pytest.raises(ConfigError, match=r"not installed.*environment of its own.*'\.\[verl\]'"):
        require_verl()


def test_what_verl_needs_and_does_not_ask_for_is_told(monkeypatch):
    install(monkeypatch, "0.9.1", without=("transfer_queue",))
    with pytest.raises(ConfigError, match="verl needs TransferQueue"):
        require_verl()


# devices


@pytest.fixture
def alone(monkeypatch):
    """No platform is named and no cluster was joined."""
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    monkeypatch.setattr(checks, "_joined_ray", lambda: False)

    def here(gpus):
        monkeypatch.setattr(checks, "_gpus_here", lambda: gpus)

    return here


def test_a_machine_without_a_gpu_is_refused(alone):
    alone(0)
    with pytest.raises(ConfigError, match=r"needs a GPU, and there is none here.*engine local.*VERL_PLATFORM"):
        require_devices(settings())


def test_too_few_gpus_are_counted(alone):
    alone(4)
    with pytest.raises(ConfigError, match=r"verl\.gpus is 8, and there are 4 GPUs here: set verl\.gpus to 4"):
        require_devices(settings())
    require_devices(settings(gpus=4))


def test_several_nodes_need_a_cluster(alone):
    alone(8)
    with pytest.raises(ConfigError, match=r"verl\.nodes is 2.*ray start.*verl\.address to auto"):
        require_devices(settings(nodes=2))


def test_a_machine_that_will_join_a_cluster_needs_no_gpu(alone):
    alone(0)
    require_devices(settings(nodes=2, address="head:6379"))


def test_in_a_cluster_each_node_needs_its_gpus(alone, monkeypatch):
    monkeypatch.setattr(checks, "_joined_ray", lambda: True)
    monkeypatch.setattr(checks, "_gpus_of_nodes", lambda: [0, 8, 4, 8])
    require_devices(settings(nodes=2, address="auto"))
    with pytest.raises(
        ConfigError, match=r"verl\.nodes is 3.*of the 4 nodes.* 2 have so many GPUs \(they have 0, 8, 4"
    ):
        require_devices(settings(nodes=3, address="auto"))


def test_a_platform_that_nobody_brings_is_refused(alone, monkeypatch):
    pytest.importorskip("verl")
    alone(0)
    monkeypatch.setenv("VERL_PLATFORM", "abacus")
    with pytest.raises(ConfigError, match=r"VERL_PLATFORM is abacus.*VERL_USE_EXTERNAL_MODULES"):
        require_devices(settings())


def test_a_platform_of_a_plug_in_is_not_counted(alone, monkeypatch):
    manager = pytest.importorskip("verl.plugin.platform.platform_manager")
    monkeypatch.setitem(manager.PlatformRegistry._platforms, "abacus", manager.PlatformBase)
    alone(0)
    monkeypatch.setenv("VERL_PLATFORM", "abacus")
    require_devices(settings())


# models


def folder(path, **changes):
    """The folder of a model of which only the configuration is there."""
    values = {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 56,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "vocab_size": 99,
    }
    (path / "config.json").write_text(json.dumps(values | changes))
    return path


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("sharing", [1, 2, 4])
def test_a_model_whose_heads_can_be_divided_is_let_through(sharing, transformers, tmp_path):
    require_shardable(settings(tensor_parallel=sharing), folder(tmp_path))


def test_keys_and_values_are_repeated_where_there_are_more_gpus(transformers, tmp_path):
    require_shardable(settings(tensor_parallel=8), folder(tmp_path, num_attention_heads=32, hidden_size=64))


@pytest.mark.parametrize(
    ("sharing", "heads", "pairs", "way"), [(8, 28, 4, 4), (6, 36, 4, 4), (4, 6, 6, 3), (5, 28, 4, 4)]
)
def test_heads_that_cannot_be_divided_are_counted(sharing, heads, pairs, way, transformers, tmp_path):
    model = folder(tmp_path, num_attention_heads=heads, num_key_value_heads=pairs, hidden_size=2 * heads)
    said = rf"{heads} attention heads and {pairs} .*verl\.tensor_parallel {sharing} GPUs: set it to {way}$"
    with pytest.raises(ConfigError, match=said):
        require_shardable(settings(tensor_parallel=sharing), model)


@pytest.mark.parametrize("names", [[], ["Qwen2ForCausalLM", "Qwen3ForCausalLM"], ["OwnForCausalLM"]])
def test_a_model_that_transformers_does_not_have_is_refused(names, transformers, tmp_path):
    with pytest.raises(ConfigError, match=r"says in its config\.json that it is.*a single architecture"):
        require_shardable(settings(), folder(tmp_path, architectures=names))


def test_a_model_whose_layers_have_no_name_is_refused_for_fsdp(transformers, tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "_no_split_modules", None)
    with pytest.raises(ConfigError, match=r"is a Qwen2ForCausalLM, whose layers Transformers does not name.*FSDP"):
        require_shardable(settings(), folder(tmp_path))
    require_shardable(settings(strategy="megatron"), folder(tmp_path))


def test_megatron_takes_some_kinds_of_model(transformers, tmp_path):
    model = folder(tmp_path, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    require_shardable(settings(), model)
    with pytest.raises(ConfigError, match=r"is a GPT2LMHeadModel, .*Megatron: set verl\.strategy to fsdp2"):
        require_shardable(settings(strategy="megatron"), model)


def test_a_context_that_is_too_short_is_told(transformers, tmp_path):
    with pytest.raises(ConfigError, match=r"reads 5000 tokens.*prompt of 4608.*answer of 512.*prompt\.max_tokens"):
        require_shardable(settings(), folder(tmp_path, max_position_embeddings=5000))


def test_an_adapter_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"is an adapter.*merge it into its base"):
        require_shardable(settings(), tmp_path)


@pytest.mark.parametrize("content", [None, "{", '{"model_type": "unheard"}'])
def test_a_model_that_cannot_be_read_is_told(content, transformers, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"has no config\.json that can be read") as told:
        require_shardable(settings(), tmp_path)
    assert "\n" not in str(told.value)


# the disk


def begin(path, data=None):
    tree = load("alfworld-verl").model_dump()
    tree["env"]["data"] = data
    RunFolder.create(path).begin(Config.model_validate(tree), TASKS)
    return path


def test_nodes_are_asked_for_the_run_and_its_data_and_no_trace_is_left(tmp_path, monkeypatch):
    asked = []

    def look(paths):
        asked.extend(paths)
        assert all(path.exists() for path in paths)
        return [("10.0.0.1", []), ("10.0.0.2", [])]

    (tmp_path / "games").mkdir()
    run = begin(tmp_path / "run", tmp_path / "games")
    before = sorted(os.listdir(run))
    monkeypatch.setattr(checks, "_missing_on_nodes", look)
    require_shared(run)
    assert len(asked) == 2 and asked[0].parent == run and asked[1] == tmp_path / "games"
    assert sorted(os.listdir(run)) == before


@pytest.mark.parametrize(("place", "said"), [(0, r"the run folder .*run: choose an --out"), (1, r"env\.data, .*games")])
def test_a_node_that_does_not_see_them_is_named(place, said, tmp_path, monkeypatch):
    run = begin(tmp_path / "run", tmp_path / "games")
    monkeypatch.setattr(
        checks, "_missing_on_nodes", lambda paths: [("10.0.0.1", []), ("10.0.0.2", [str(paths[place])])]
    )
    with pytest.raises(ConfigError, match=rf"node 10\.0\.0\.2 does not see {said}.*all nodes share"):
        require_shared(run)
    assert not list(run.glob(".seen*"))


@pytest.fixture(scope="module")
def nodes():
    """A Ray cluster of two nodes, here."""
    ray = pytest.importorskip("ray")
    cluster = pytest.importorskip("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 2, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1, num_gpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_the_nodes_of_a_cluster_are_counted_and_asked(nodes, tmp_path, monkeypatch):
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    require_devices(settings(nodes=2, gpus=1, address="auto"))
    with pytest.raises(ConfigError, match=r"of the 2 nodes of the Ray cluster 1 have so many GPUs"):
        require_devices(settings(nodes=2, gpus=2, address="auto"))
    (tmp_path / "games").mkdir()
    run = begin(tmp_path / "run", tmp_path / "games")
    require_shared(run)
    (tmp_path / "games").rmdir()
    with pytest.raises(ConfigError, match=r"node \d+\.\d+\.\d+\.\d+ does not see env\.data, .*games"):
        require_shared(run)
    assert len(checks._missing_on_nodes([run])) == 2
