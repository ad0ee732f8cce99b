"""README and docs say what is so: their commands exist, their links lead somewhere, the results are those on file."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from d2skill import SkillBank
from d2skill.cli.main import COMMANDS
from d2skill.config import HousesConfig
from d2skill.config.toml_files import presets
from d2skill.envs.houses.alfworld_files import write_houses

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_named_exist(page):
    for words in re.findall(r"`d2skill ([a-z][^`]*)`", page.read_text()):
        first, second, *_ = [*words.split(), ""]
        assert first in COMMANDS or f"{first} {second}" in COMMANDS, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_example_of_the_engine_runs(tmp_path):
    text = (ROOT / "docs" / "environments.md").read_text()
    block = text.partition("## ALFWorld without TextWorld\n\n")[2].partition("\n\n**Exact.**")[0]
    write_houses(tmp_path, HousesConfig(), {"valid_seen": 1})
    code = re.sub(
        r'Game\.load\(".*?"\)', f"Game.load({str(next(tmp_path.rglob('game.tw-pddl')))!r})", textwrap.dedent(block)
    )
    names = {}
    exec(code, names)
    assert names["game"].task.split == "valid_seen" and names["seen"].text


def test_the_example_of_the_bank_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "bank.md").read_text()
    block = text.partition("for agents that are not being trained as well:\n\n")[2].partition("\n\n`batch` makes")[0]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(textwrap.dedent(block), names)
    assert names["shown"] == ["t1"] and "Posterior(mean=0.25" in capsys.readouterr().out
    assert SkillBank.open(tmp_path / "bank.db").get("t1").retrievals == 1


def test_readme_names_every_preset():
    text = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in text for name in presets())


def test_the_results_table_is_made_from_the_results():
    check = [sys.executable, str(ROOT / "benchmarks" / "readme_table.py"), "--check"]
    assert subprocess.run(check).returncode == 0, "run python benchmarks/readme_table.py"
