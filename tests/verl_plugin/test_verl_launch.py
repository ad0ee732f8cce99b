"""What stops a run through verl is said in a sentence, and leaves no folder behind."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("verl")

import ray

from d2skill.config.toml_files import load
from d2skill.errors import ConfigError, RunError
from d2skill.verl import launch


def config(*options, **verl):
    preset = load("alfworld-verl")
    return preset.model_copy(update={"verl": preset.verl.model_copy(update={"options": options, **verl})})


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("actor_rollout_ref.actor.no_such_thing=1", "no_such_thing"),
        ("trainer.logger=[console", "no viable alternative"),
        ("actor_rollout_ref.rollout.temperature=0", "temperature"),
    ],
)
def test_a_setting_that_verl_does_not_take_is_named(tmp_path, option, said):
    with pytest.raises(ConfigError, match=f"{said}.*verl.options"):
        launch._verl_settings(config(option), tmp_path, None)


def test_a_cluster_that_is_not_there_is_named(tmp_path, monkeypatch):
    def absent(**given):
        raise ConnectionError(f"nothing at {given['address']}")

    monkeypatch.setattr(ray, "init", absent)
    with pytest.raises(ConfigError, match=r"verl.address is auto.*nothing at auto.*ray start --head"):
        launch._start_ray(launch._verl_settings(config(address="auto"), tmp_path, None))


@pytest.mark.parametrize(
    ("given", "before", "after"),
    [
        ({}, None, "0"),
        ({}, "1", "1"),  # the user's own choice
        ({"address": "auto"}, None, None),
        ({"options": ("+ray_kwargs.ray_init.address=head:6379",)}, None, None),
    ],
)
def test_a_ray_of_one_node_is_to_listen_on_loopback(given, before, after, monkeypatch):
    monkeypatch.setenv(launch._LOOPBACK, "")  # which is taken back after the test
    os.environ.pop(launch._LOOPBACK)
    if before:
        os.environ[launch._LOOPBACK] = before
    launch.listen_on_loopback(config(*given.pop("options", ()), **given))
    assert os.environ.get(launch._LOOPBACK) == after


_LISTENING = """
from d2skill.config.toml_files import load
from d2skill.verl import launch
launch.listen_on_loopback(load("alfworld-verl"))
import psutil, ray
ray.init(num_cpus=1, object_store_memory=100_000_000, log_to_driver=False)
ray.get(ray.remote(lambda: 1).remote())
me = psutil.Process()
processes = {me.pid, *(child.pid for child in me.children(recursive=True))}
listening = [one for one in psutil.net_connections("inet") if one.status == "LISTEN" and one.pid in processes]
print("addresses", *{one.laddr.ip.removeprefix("::ffff:") for one in listening})
ray.shutdown()
"""


@pytest.mark.slow
def test_a_ray_of_one_node_listens_on_loopback():
    variables = {name: value for name, value in os.environ.items() if name != launch._LOOPBACK}
    done = subprocess.run([sys.executable, "-c", _LISTENING], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "addresses 127.0.0.1"


@pytest.mark.slow
def test_errors_of_processes_are_told_as_they_are(monkeypatch):
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    try:

        @ray.remote(num_cpus=0)
        def fails(error):
            raise error

        with pytest.raises(ConfigError, match=r"^rollout.tasks is 9: lower it$"), launch._plain_errors():
            ray.get(fails.remote(ConfigError("rollout.tasks is 9: lower it")))
        with (
            pytest.raises(RunError, match=r"^verl stopped .KeyError: 'reward'.: what stands above"),
            launch._plain_errors(),
        ):
            ray.get(fails.remote(KeyError("reward")))
    finally:
        ray.shutdown()
