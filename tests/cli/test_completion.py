"""Completion by Tab: what may follow some words, and the scripts in the shells that are installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from d2skill.bank.journal import from_records
from d2skill.cli.complete import complete
from d2skill.cli.main import COMMANDS, main
from d2skill.config import Config
from d2skill.runs.folder import RunFolder
from d2skill.types import Skill, SkillText


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two run folders below ./runs, one inside an ablation; the first has three skills."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/a", "runs/ablation/full-0"):
        RunFolder.create(Path(name)).begin(Config(), {})
    skills = [Skill(id, "task", SkillText(id, "Look.", "always"), id) for id in ("t1", "t2", "t13")]
    from_records(Path("runs/a/bank.db"), "hashed-v2/512", skills, {})
    return tmp_path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["pl"], ["plan", "play"]),
        (["bank", "s"], ["show", "search", "stats", "salvage"]),
        (["config", ""], ["list", "show"]),
        (["bank", "list", ""], ["runs/a", "runs/ablation/full-0"]),
        (["compare", "runs/a", "runs/ab"], ["runs/ablation/full-0"]),
        (["bank", "blame", "runs/a", "t1"], ["t1", "t13"]),
        (["bank", "hold", "runs/a", "t1", "t2"], ["t2"]),
        (["bank", "list", "runs/a", "--status", "e"], ["evicted"]),
        (["bank", "diff", "--f"], ["--from"]),
        (["train", "--rollout.w"], ["--rollout.with-skills"]),
        (["train", "--engine", ""], ["local", "verl"]),
        (["train", "--config", "grp"], ["grpo"]),
        (["config", "show", "laptop-"], ["laptop-lm"]),
        (["calibrate", "--ki"], ["--kind"]),
        (["train", "--policy", "c"], ["causal-lm"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["play", "--replay", "runs/a"], ["runs/a", "runs/ablation/full-0"]),
        (["train", "--skills=p"], ["--skills=paper"]),
        (["train", "--skills", "=", "p"], ["paper"]),
        (["train", "--skills", "="], ["consolidated", "paper"]),
        (["train", "--env", "al"], ["alfworld"]),
        (["train", "--env=al"], ["--env=alfworld"]),
        (["train", "--track", "wandb,t"], ["wandb,tensorboard", "wandb,trackio"]),
        (["evaluate", "runs/a", "--arms", "no"], ["none"]),
        (["evaluate", "runs/a", "--arms", "none,b"], ["none,bank"]),
        (["nonsense", ""], []),
        (["bank", "nonsense", "--"], []),
    ],
)
def test_what_may_follow(words, found, runs):
    assert complete(words) == found


def test_every_command_has_flags_that_it_takes(runs, capsys):
    for name in COMMANDS:
        flags = complete([*name.split(), "--"])
        assert "--help" in flags and not any("_" in flag for flag in flags)
    assert {"--bank", "--json", "--seen-tasks"} <= {*complete(["evaluate", "--"])}
    main(["__complete", "bank", "show", "no/such/run", ""])
    assert capsys.readouterr().out == ""


def in_shell(shell, script, cwd):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if not shutil.which("d2skill", path=path):
        pytest.skip("the command d2skill is not beside this Python")
    command = [shell, *(["--no-rcs"] if shell == "zsh" else []), "-c", script]
    env = {**os.environ, "PATH": path, "TERM": "dumb"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def test_bash_completes(runs):
    script = """
    source <(d2skill completion bash)
    complete -p d2skill
    for words in "d2skill ban" "d2skill bank show runs/a t" "d2skill train --skills = p" "d2skill train --skills ="; do
        COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _d2skill; echo "${COMPREPLY[@]}"
    done
    """
    found = in_shell("bash", script, runs)
    assert found[:6] == ["complete", "-o", "default", "-F", "_d2skill", "d2skill"]
    assert found[6:] == ["bank", "t1", "t2", "t13", "paper", "consolidated", "paper"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("d2skill tr", ["train"]),
        ("d2skill bank show 'runs/a' t1", ["t1", "t13"]),
        ("d2skill bank list ", ["runs/a", "runs/ablation/full-0"]),
        ("d2skill train --rollout.w", ["--rollout.with-skills"]),
        ("d2skill train --skills=p", ["--skills=paper"]),
        ("d2skill bank export runs/a no", ["notes.txt"]),
    ],
)
def test_fish_completes(line, found, runs):
    (runs / "notes.txt").touch()
    assert in_shell("fish", f'd2skill completion fish | source; complete -C "{line}"', runs) == found


AT_A_TERMINAL = r"""
zmodload zsh/zpty
zpty z zsh --no-rcs -i
zpty -w z 'fpath+=(functions); autoload -U compinit; compinit -u -D; SOURCE; setopt no_beep; tell() { '
zpty -w z 'print -r -- "LINE[$BUFFER]"; BUFFER= }; zle -N tell; bindkey "^X" tell; print REA""DY'
zpty -r -m z line '*READY*'
for typed in %s; do
    zpty -w -n z "$typed"$'\t\x18'
    zpty -r -m z line '*LINE\[*\]*' && print -r -- "$line"
done
zpty -d z
"""
"""Types lines and Tab into an interactive zsh, and prints what the lines become"""


@pytest.mark.parametrize("source", ["source <(d2skill completion zsh)", ":"], ids=["sourced", "fpath"])
def test_zsh_completes(source, runs):
    (runs / "notes.txt").touch()
    if source == ":":
        (runs / "functions").mkdir()
        in_shell("zsh", "d2skill completion zsh > functions/_d2skill", runs)
    lines = {
        "d2skill tra": "d2skill train ",
        "d2skill bank show 'runs/a' t13": "d2skill bank show 'runs/a' t13 ",
        "d2skill bank blame runs/abl": "d2skill bank blame runs/ablation/full-0 ",
        "d2skill train --rollout.wi": "d2skill train --rollout.with-skills ",
        "d2skill train --skills=p": "d2skill train --skills=paper ",
        "d2skill bank export runs/a no": "d2skill bank export runs/a notes.txt ",
    }
    told = " ".join(
        in_shell("zsh", AT_A_TERMINAL.replace("SOURCE", source) % " ".join(f'"{line}"' for line in lines), runs)
    )
    assert re.findall(r"LINE\[(.*?)\]", told) == [*lines.values()]
