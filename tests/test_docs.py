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
import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import SMALL
from webshop_products import raw, write_set

import d2skill
from d2skill.cli import main as cli_main
from d2skill.cli.main import COMMANDS, find_command, main
from d2skill.cli.output import Output
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
    """Lets `main` parse a command, which then does nothing."""
    understand = cli_flags._parse

    def stop(*given, **more):
        understand(*given, **more)
        raise Parsed

    def find_idle(name):
        return functools.wraps(find_command(name))(lambda *_, **__: Output({}, lambda: None))

    with monkeypatch.context() as patch:
        if words[0] in ("train", "plan", "houses", "ablate"):
            patch.setattr(cli_flags, "_parse", stop)
            with pytest.raises(Parsed):
                main(words)
        else:
            patch.setattr(cli_main, "find_command", find_idle)
            main(words)


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


def anchors_of(page):
    """Anchors of the headings of a page, as the docs site and GitHub make them."""
    outside = re.sub(r"^```.*\n(?:.*\n)*?```$", "", page.read_text(), flags=re.M)
    for heading in re.findall(r"^#+ (.+)$", outside, re.M):
        plain = unicodedata.normalize("NFKD", re.sub(r"\]\([^)]*\)", "", heading)).encode("ascii", "ignore").decode()
        yield re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_anchors_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def nav_of(entries):
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from nav_of(value) if isinstance(value, list) else [value]


def test_each_page_is_once_in_the_navigation_of_the_site():
    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    assert sorted(nav_of(site["nav"])) == sorted(page.name for page in PAGES if page.parent.name == "docs")


def test_the_api_page_has_each_public_name_once():
    named = re.findall(r"^::: d2skill\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted([*named, "__version__"]) == sorted(d2skill.__all__)


def test_pages_made_from_the_code_are_up_to_date():
    check = [sys.executable, str(ROOT / "tools" / "reference_pages.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
