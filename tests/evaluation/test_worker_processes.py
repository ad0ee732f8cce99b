"""Functions here are named at the top, so that other processes find them."""

import os
import subprocess
import sys
from contextlib import closing
from functools import partial

import psutil
import pytest

from d2skill.errors import ConfigError, D2SkillError
from d2skill.evaluation.worker_processes import map_in_processes


def square(item):
    return os.getpid(), item * item


def fail(kind, item):
    if item == 3:
        raise kind("three is too much")
    return item


def end(item):
    os._exit(7)


def made(act):
    return act


def nobody_is_left():
    """True if no child process is left but those of other tests, such as the service of a tracker."""
    return {child.pid for child in psutil.Process().children()} <= EARLIER


@pytest.fixture(autouse=True)
def _children_of_other_tests():
    EARLIER.clear()
    EARLIER.update(child.pid for child in psutil.Process().children())


EARLIER = set()


def refused():
    raise ConfigError("there is no such bank")


def test_each_item_is_done_once_and_by_several_processes():
    with closing(map_in_processes(2, partial(made, square), range(9))) as results:
        found = dict(results)
    assert {at: value for at, (_, value) in found.items()} == {n: n * n for n in range(9)}
    assert len({pid for pid, _ in found.values()} - {os.getpid()}) == 2
    assert nobody_is_left()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (partial(made, partial(fail, ConfigError)), ConfigError, "^three is too much\nIn a worker process"),
        (partial(made, partial(fail, KeyError)), KeyError, "In a worker process:\n(.|\n)*in fail\n"),
        (partial(made, end), D2SkillError, "ended with status 7.*--workers"),
        (refused, ConfigError, "no such bank"),
    ],
)
def test_what_goes_wrong_in_a_process_is_said_here_and_no_process_is_left(make, error, said):
    with closing(map_in_processes(2, make, range(9))) as results, pytest.raises(error, match=said):
        list(results)
    assert nobody_is_left()


def test_an_interruption_leaves_no_process():
    with pytest.raises(KeyboardInterrupt), closing(map_in_processes(2, partial(made, square), range(99))) as results:
        next(results)
        assert len({child.pid for child in psutil.Process().children()} - EARLIER) == 2
        raise KeyboardInterrupt
    assert nobody_is_left()


def test_a_script_needs_no_guard(tmp_path):
    """The processes do not run the main module of their caller again."""
    code = (
        "from functools import partial; import test_worker_processes as t; print('once')\n"
        "print(len(list(t.map_in_processes(2, partial(t.made, t.square), range(3)))))\n"
    )
    (tmp_path / "script.py").write_text(code)
    here = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    ended = subprocess.run([sys.executable, tmp_path / "script.py"], env=here, capture_output=True, text=True)
    assert ended.stdout == "once\n3\n", ended.stderr
