"""Functions here are named at the top, so that other processes find them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest

from d2skill.errors import ConfigError, RunError
from d2skill.utils.child_process import ChildProcess

SECONDS = 60


def made(act):
    return act


def square(item):
    print("this must not get among the answers")
    return os.getpid(), item * item


def fail(item):
    raise ConfigError(f"{item} is too much") if item == 3 else KeyError("x")


def end(item):
    os._exit(7)


def refused():
    raise ConfigError("there is no such bank")


def child(act):
    return closing(ChildProcess(partial(made, act)))


def test_requests_are_answered_in_order_by_another_process():
    with child(square) as process:
        for item in range(5):
            process.send(item)
        answers = [process.receive() for _ in range(5)]
    assert [square_ for _, square_ in answers] == [0, 1, 4, 9, 16]
    (pid,) = {pid for pid, _ in answers}
    assert pid != os.getpid() and not psutil.pid_exists(pid)


def test_an_error_is_raised_here_with_its_origin_and_the_process_goes_on():
    with child(fail) as process:
        for item, error, said in ((3, ConfigError, "3 is too much"), (1, KeyError, "x")):
            process.send(item)
            with pytest.raises(error, match=said) as raised:
                process.receive()
            assert "in fail" in raised.value.__notes__[0]


def test_what_cannot_be_made_is_an_error_of_the_first_answer():
    with closing(ChildProcess(refused)) as process, pytest.raises(ConfigError, match="no such bank"):
        process.send(1)
        process.receive()


def test_a_process_that_is_gone_is_a_sentence():
    with child(end) as process:
        process.send(1)
        with pytest.raises(RunError, match=r"ended with status 7.*--processes"):
            process.receive()
        process.send(1)
        with pytest.raises(RunError, match="ended"):
            process.receive()


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_when_this_one_ends(ending):
    code = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from functools import partial\n"
        "from d2skill.utils.child_process import ChildProcess\n"
        "from test_child_process import made\n"
        "process = ChildProcess(partial(made, time.sleep))\n"
        "process.send(600)\n"
        "print(process._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout
    process = psutil.Process(int(parent.stdout.readline()))
    time.sleep(1)  # until the child is asleep in its function
    parent.send_signal(ending)
    parent.wait(SECONDS)
    process.wait(SECONDS)
    parent.stdout.close()
