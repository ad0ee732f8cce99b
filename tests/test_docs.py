"""README and docs say what is so: their commands exist, their links lead somewhere, the results are those on file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from d2skill.cli import COMMANDS
from d2skill.settings_files import presets

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


def test_readme_names_every_preset():
    text = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in text for name in presets())


def test_the_results_table_is_made_from_the_results():
    check = [sys.executable, str(ROOT / "benchmarks" / "readme_table.py"), "--check"]
    assert subprocess.run(check).returncode == 0, "run python benchmarks/readme_table.py"
