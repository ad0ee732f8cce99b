"""README and docs are true: code blocks run, commands and links exist, results are those on file.

A code block is fenced and named: ```` ```bash name=first-run ````. Python blocks are executed, in the order of the page
and in one namespace. In bash and console blocks each `d2skill` command is executed, in a folder with a small finished
run under runs/houses; with the word `parse` behind the name it is only parsed, for commands that need a GPU, a server
or a long time. RUN, FOLDER and OUT are placeholders.
"""

import functools
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro
from commands import SMALL
from webshop_products import raw, write_set

from d2skill.cli.main import COMMANDS, find_command, main
from d2skill.config import HousesConfig, cli_flags
from d2skill.config.toml_files import parse, presets
from d2skill.envs.houses.alfworld_files import write_houses

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"bash", "console", "python", "toml", "text", "markdown", "make"}


@dataclass(frozen=True)
class Block:
    """One fenced code block of a page."""

    page: Path
    language: str
    name: str
    options: tuple[str, ...]
    text: str

    @property
    def id(self):
        return f"{self.page.stem}-{self.name}"


def blocks_of(page):
    found = []
    for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(), re.M):
        language, *words = match[1].split() or [""]
        name = next((word.removeprefix("name=") for word in words if word.startswith("name=")), "")
        options = tuple(word for word in words if not word.startswith("name="))
        found.append(Block(page, language, name, options, match[2]))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_of(block):
    """The `d2skill` commands of a block; of a console block those behind the prompt."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in lines:
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            if words[:1] == ["d2skill"]:
                yield words[1:]


def only_named(blocks, *languages):
    chosen = [block for block in blocks if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: block.id)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_are_fenced_and_named(page):
    text = page.read_text()
    assert text.count("```") == 2 * len(blocks_of(page))
    outside = re.sub(r"^```.*\n(?:.*\n)*?```$", "", text, flags=re.M)
    assert not re.search(r"^\n {4,}\S", outside, re.M), "an indented block: fence it"
    names = [block.name for block in blocks_of(page)]
    assert all(names) and len({*names}) == len(names), f"each block has a name of its own: {names}"
    assert {block.language for block in blocks_of(page)} <= LANGUAGES


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a small finished run, generated games and a small shop, as the pages assume them."""
    folder = tmp_path_factory.mktemp("docs")
    flags = [*SMALL, "--warm-start.tasks", "40", "--train.iterations", "12", "--validation.every", "6"]
    main(["train", *flags, "--out", str(folder / "runs" / "houses")])
    write_houses(folder / "games", HousesConfig(), {"train": 12, "valid_seen": 2})
    lamps = [raw(f"B{number:09}", name=f"Red lamp {number}") for number in range(3)]
    attributes = {lamp["asin"]: {"instruction": "Find me lamps", "instruction_attributes": ["red"]} for lamp in lamps}
    write_set(folder / "shop", lamps, attributes, {})
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, workplace, tmp_path, monkeypatch):
    names = {"__name__": "docs", "RUN": workplace / "runs" / "houses", "OUT": tmp_path}
    names |= {"FOLDER": workplace / "games", "SHOP": workplace / "shop"}
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page):
        if block.language == "python" and "parse" in block.options:
            compile(block.text, block.id, "exec")
        elif block.language == "python":
            exec(compile(block.text, block.id, "exec"), names)


class Parsed(Exception):
    """Ends a command once its arguments are understood."""


def parse_only(words, monkeypatch):
    """Parses a command as `main` does and stops before it begins."""
    one, two = words[0], " ".join(words[:2])
    command = find_command(two if two in COMMANDS else one)
    rest = words[2:] if two in COMMANDS else words[1:]
    if one in ("train", "plan", "houses", "ablate"):
        understand = cli_flags._parse

        def stop(*given, **more):
            understand(*given, **more)
            raise Parsed

        with monkeypatch.context() as patch, pytest.raises(Parsed):
            patch.setattr(cli_flags, "_parse", stop)
            command(rest)
    else:
        tyro.cli(functools.wraps(command)(lambda *_, **__: None), args=rest)


@only_named(BLOCKS, "bash", "console")
def test_commands_of_a_block_run(block, workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    places = {"RUN": "runs/houses", "FOLDER": "games", "OUT": str(tmp_path / "out")}
    for words in commands_of(block):
        words = [re.sub(r"\b(RUN|FOLDER|OUT)\b", lambda match: places[match[0]], word) for word in words]
        if "parse" in block.options:
            parse_only(words, monkeypatch)
        else:
            try:
                main(words)
            except SystemExit as ended:
                assert not ended.code, f"{words}: {capsys.readouterr().err}"


@only_named(BLOCKS, "bash", "console")
def test_scripts_of_a_block_exist(block):
    for script in re.findall(r"\bpython ((?:benchmarks|examples|tools)/\S+\.py)", block.text):
        assert (ROOT / script).is_file(), script


@only_named(BLOCKS, "toml")
def test_settings_of_a_block_are_settings(block):
    for part in re.split(r"\n\n(?=\[)", block.text):
        parse(part, block.id)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_named_exist(page):
    for words in re.findall(r"`d2skill ([a-z][^`]*)`", page.read_text()):
        first, second, *_ = [*words.split(), ""]
        assert first in COMMANDS or f"{first} {second}" in COMMANDS, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_named_exist(page):
    """`bank.ranking` and `src/d2skill/bank/ranking.py` in backticks are there, under that name."""
    source = ROOT / "src" / "d2skill"
    rooms = "|".join(path.name for path in source.iterdir() if path.is_dir() and path.name != "__pycache__")
    for path in re.findall(r"`((?:src|tests|tools|benchmarks|examples|docs)/[\w/.-]+)`", page.read_text()):
        assert (ROOT / path).exists(), path
    for path in re.findall(rf"`((?:{rooms})/(?:[\w/]+\.py|[\w/]*/))`", page.read_text()):
        assert (source / path).exists() or (ROOT / path).exists(), path


def test_the_glossary_has_each_word_once():
    words = re.findall(r"^\| ([^|]+?) \| (?!meaning)", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    words = [word for word in words if word != "---"]
    assert len(words) >= 50 and len({*words}) == len(words)


def test_readme_names_every_preset():
    text = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in text for name in presets())


def test_the_results_table_is_made_from_the_results():
    check = [sys.executable, str(ROOT / "benchmarks" / "readme_table.py"), "--check"]
    assert subprocess.run(check).returncode == 0, "run python benchmarks/readme_table.py"
