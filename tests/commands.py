"""Commands as the tests give them: settings of a small run, and a command that must fail."""

from functools import wraps

import pytest

from d2skill.cli.main import main

SMALL = [
    *("--env.houses.floor-plans", "2", "--env.houses.games-per-plan", "10", "--env.houses.receptacles", "10"),
    *("--rollout.tasks", "3", "--rollout.group-size", "4", "--rollout.with-skills", "2"),
    *("--warm-start.tasks", "12", "--validation.tasks", "10", "--validation.every", "2"),
    *("--train.checkpoint-every", "2"),
]


def fails(capsys, *arguments, status=2):
    """Runs a command that must fail, and returns the one sentence it says."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    said = capsys.readouterr().err
    assert ended.value.code == status
    assert "Traceback" not in said
    assert said.startswith("d2skill: ") and said.count("\n") == 1
    return said


def printing(command):
    """Returns a command's function that prints what it found, as the command line does."""

    @wraps(command)
    def run(*given, **options):
        command(*given, **options).print(as_json=False)

    return run
