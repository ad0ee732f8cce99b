"""With --json nothing but the document reaches stdout, not even what libraries write to its descriptor."""

import ctypes
import json
import os
import subprocess
import sys

import pytest

from d2skill.cli.main import main
from d2skill.cli.output import Output, json_alone, with_json

NOISY = """
import ctypes, os, sys
from d2skill.cli import config
from d2skill.cli.output import Output

def noisy() -> Output:
    print("python")
    os.write(1, b"descriptor\\n")
    ctypes.CDLL(None).printf(b"held back by C\\n")
    print("kept from before", file=sys.__stdout__)
    os.system("echo a child")
    return Output({"a": 1}, lambda: None)

config.config_list = noisy
from d2skill.cli.main import main
main()
"""
"""A program that is `d2skill`, but for one command that writes to stdout by each way there is"""


def run(*words, **more):
    return subprocess.run([sys.executable, "-c", NOISY, *words], text=True, timeout=120, **more)


@pytest.mark.skipif(os.name == "nt", reason="printf of the C library")
def test_only_the_document_gets_into_a_pipe():
    done = run("config", "list", "--json", capture_output=True)
    assert done.returncode == 0 and json.loads(done.stdout) == {"a": 1}
    told = sorted(done.stderr.splitlines())
    assert told == ["a child", "descriptor", "held back by C", "kept from before", "python"]


@pytest.mark.skipif(os.name == "nt", reason="descriptors of POSIX")
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_a_closed_stream_is_no_error(closed):
    done = run("config", "list", "--json", stdout=subprocess.PIPE, preexec_fn=lambda: [os.close(fd) for fd in closed])
    assert done.returncode == 0
    assert done.stdout == "" if 1 in closed else json.loads(done.stdout) == {"a": 1}


def test_a_full_disk_is_a_sentence():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = run("config", "list", "--json", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and "d2skill: writing a file: No space left on device" in done.stderr


def noisy() -> Output:
    """Command that writes to the descriptor."""
    os.write(1, b"descriptor\n")
    print("python")
    return Output({"a": 1}, lambda: print("text"))


def test_descriptors_are_as_before(capfd):
    with_json(noisy)(json=True)
    told = capfd.readouterr()
    assert json.loads(told.out) == {"a": 1} and told.err == "descriptor\npython\n"
    with pytest.raises(ZeroDivisionError), json_alone(True):
        os.write(1, b"before the error\n")
        raise ZeroDivisionError
    os.write(1, b"after\n")
    ctypes.CDLL(None).fflush(None)
    told = capfd.readouterr()
    assert told == ("after\n", "before the error\n")
    with_json(noisy)(json=False)
    assert capfd.readouterr() == ("descriptor\npython\ntext\n", "")


def test_it_is_caught_from_python_as_well(capsys):
    with_json(noisy)(json=True)
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    main(["config", "list", "--json"])
    assert json.loads(capsys.readouterr().out)
