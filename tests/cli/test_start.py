"""A command pays for itself alone: it is imported when it is called, and help, version and lists need little."""

import gc
import pkgutil
import re
import subprocess
import sys
from typing import Annotated, Union, get_args, get_origin

import pytest

import d2skill
from d2skill import cli
from d2skill.bank import SkillBank
from d2skill.bank.journal import from_records
from d2skill.bank.worth import Worth
from d2skill.cli import bank
from d2skill.cli import main as command_line
from d2skill.cli.main import COMMANDS, find_command, main
from d2skill.config import Config
from d2skill.runs.folder import RunFolder
from d2skill.types import Skill, SkillText
from d2skill.utils.annotations import plain_union

HELP = {"d2skill", "d2skill.cli", "d2skill.cli.main", "d2skill.errors", "d2skill.utils", "d2skill.utils.annotations"}
HELP |= {"d2skill.cli.stop_signals"}
HELP |= {f"d2skill.utils.{name}" for name in ("foreign_text", "key_mask", "terminal")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder whose bank has ten skills."""
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "run")
    folder.begin(Config(), {})
    skills = [Skill(f"t{n}", "task", SkillText(f"Look {n}", "Look.", "always"), f"mug {n}") for n in range(1, 11)]
    from_records(folder.bank, "hashed-v2/512", skills, {"t3": Worth(3, 9, 1.0, 0.5, 2)})
    return folder.path


def in_a_process(code, *arguments):
    """Runs code with a command line in a new interpreter; returns the words that it writes to stderr."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()


def loaded_by(*arguments):
    """Runs a command in a new interpreter; returns the modules that are loaded at its end."""
    end = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    return {*in_a_process(end + "from d2skill.cli.main import main; main()", *arguments)}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"], ["--version"], ["bank", "--help"], ["config"]])
def test_help_and_version_load_no_command(arguments):
    loaded = loaded_by(*arguments)
    assert {name for name in loaded if name.startswith("d2skill")} == HELP
    assert not loaded & {"numpy", "pydantic", "tyro"}


def test_a_list_of_skills_loads_neither_settings_nor_embedders_nor_locks(run):
    loaded = loaded_by("bank", "list", run)
    assert not loaded & {"pydantic", "torch", "typeguard", "asyncio", "filelock", "yaml"}
    ours = ("config", "embedders", "trainer", "bank.bank", "runs.trajectories")
    assert not loaded & {f"d2skill.{name}" for name in ours}


@pytest.mark.parametrize("command", ["bank list", "bank show", "config list", "doctor", "evaluate", "play"])
def test_a_command_loads_no_other_command(command):
    own, _ = COMMANDS[command].split(":")
    names = {name for name in loaded_by(*command.split(), "--help") if name.startswith("d2skill.cli.")}
    loaded = {name.removeprefix("d2skill.cli.") for name in names}
    assert loaded <= {"main", "stop_signals", "output", "bank", "bank.open", "bank.tables", own} and own in loaded


def test_the_table_has_all_commands_and_the_overview_only_names_such():
    folders = [*cli.__path__, *bank.__path__]
    modules = {name for _, name, is_folder in pkgutil.iter_modules(folders) if not is_folder}
    named = {place.partition(":")[0].rpartition(".")[2] for place in COMMANDS.values()}
    assert named == modules - {"main", "open", "tables", "output", "complete", "stop_signals"}
    for name in COMMANDS:
        command = find_command(name)
        assert callable(command) and command.__doc__ and command.__module__.startswith("d2skill.cli.")
    screens = [command_line._OVERVIEW, *command_line._GROUPS.values()]
    named = re.findall(r"^  d2skill ((?:(?:bank|config|models) )?[a-z-]+)", "\n".join(screens), re.M)
    assert {*named} <= {*COMMANDS, "bank", "models"}
    missing = [name for name in COMMANDS if name.startswith(("bank ", "config ")) and name not in named]
    assert not missing and max(len(line) for screen in screens for line in screen.splitlines()) <= 80


def test_the_garbage_collector_rests_only_while_a_process_loads_its_command(capsys):
    told = "print(gc.isenabled(), gc.get_freeze_count(), file=sys.stderr)"
    code = f"import gc, sys; from d2skill.cli.main import main; main(); {told}"
    enabled, frozen = in_a_process(code, "config", "list")
    assert enabled == "True" and int(frozen) > 1000
    before = gc.get_freeze_count()
    main(["config", "list"])
    assert gc.isenabled() and gc.get_freeze_count() == before


def test_the_package_is_light_and_has_its_names_when_they_are_asked_for():
    code = "import sys, d2skill; print(*sys.modules, file=sys.stderr)"
    loaded = {*in_a_process(code)}
    assert {name for name in loaded if name.startswith("d2skill")} == {"d2skill"}
    assert not loaded & {"numpy", "pydantic", "importlib.metadata"}
    assert d2skill.bank.SkillBank is d2skill.SkillBank is SkillBank and {*d2skill.__all__} <= {*dir(d2skill)}
    for package in (d2skill, d2skill.bank):
        with pytest.raises(AttributeError, match="nonsense"):
            _ = package.nonsense


def test_a_union_with_none_is_written_so_that_tyro_checks_it_by_itself():
    for kind in (plain_union(int | None), get_args(plain_union(Annotated[int | None, "note"]))[0]):
        assert get_origin(kind) is Union and get_args(kind) == (int, type(None))
    assert get_args(plain_union(Annotated[int | None, "note"]))[1] == "note"
    assert plain_union(str) is str and plain_union(Annotated[str, "note"]) == Annotated[str, "note"]
