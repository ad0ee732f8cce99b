"""Runs commands of d2skill in forks of this process, and stops them at any moment by real signals or a full disk.

Reads cases as JSON from stdin and prints their results as JSON: a fork does not import everything anew. Moments are
counted in what a process asks the system for in its run folder: opening, making, renaming and removing.
"""

import json
import os
import resource
import signal
import sys

import d2skill.api
import d2skill.cli.train
import d2skill.policies.scorer.policy  # noqa: F401
from d2skill.cli.main import main

_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "os.truncate"}


def run(case):
    """Runs a case in a fork; returns its exit status, negative for a signal, and what it wrote to stderr."""
    read, write = os.pipe()
    if not (child := os.fork()):
        os.close(read)
        os.dup2(write, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(_in_fork(case))
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    return {"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "said": said}


def _in_fork(case):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.argv = ["d2skill", *case["command"]]
    if "bytes" in case:
        resource.setrlimit(resource.RLIMIT_FSIZE, (case["bytes"],) * 2)
    if "at" in case:
        sys.addaudithook(_Stop(case).see)
    if "until_begun" in case:
        sys.addaudithook(_Count(case).see)
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        print(f"Traceback: {error!r}", file=sys.stderr, flush=True)
        return 99
    return 0


class _Moments:
    def __init__(self, case):
        self.case, self.seen = case, 0

    def see(self, event, arguments):
        if event in _EVENTS and arguments and str(arguments[0]).startswith(self.case["out"]):
            self.seen += 1
            self.act(event, arguments)

    def act(self, event, arguments):
        raise NotImplementedError


class _Stop(_Moments):
    """Sends this process a signal at some moments."""

    def act(self, event, arguments):
        if self.seen in self.case["at"]:
            os.kill(os.getpid(), self.case["signal"])


class _Count(_Moments):
    """Ends this process at the moment from which its run has begun, and tells how many moments there were."""

    def act(self, event, arguments):
        if event == "os.remove" and str(arguments[0]).endswith(".beginning"):
            os.write(2, str(self.seen).encode())
            os._exit(0)


json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
