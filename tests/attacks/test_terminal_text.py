"""Text that others wrote, in every command: nothing steers the terminal, no bracket is read as markup, nothing fails.

A run, its bank and its environment are full of hostile text, and so is the name of the run. Each command is called on
them, also with --json and so that it fails, and what it prints is searched.
"""

import ast
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import astuple
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

import d2skill
from d2skill.bank import SkillBank
from d2skill.bank.formats import skill_md
from d2skill.bank.journal import Insert, Journal, JournalWriter, Mark, Note, from_records
from d2skill.bank.journal.events import Change, Credit, Refute, Repeat, Retrieve, Revise, Support
from d2skill.cli.main import COMMANDS, main
from d2skill.evaluation import plots
from d2skill.runs.run import Run
from d2skill.trackers.terminal import skills_table
from d2skill.types import Skill, SkillText
from d2skill.utils.foreign_text import logger, print_traceback, shown, visible
from d2skill.utils.terminal import Terminal

STEERING = "\x1b[8;5m\x1b]0;title\x07\x9b2J\x9d0;t\x9c\u202e\u2066\u200f\u2028\ufeff\x00\r\x08\x0b\x0c\x7f\U000e0041"
BRACKETS = "[red][/x][link=e][/]:smile:"
BAD = f"BRK{BRACKETS}BRK{STEERING}"
NAME = "m3[red][/x]'$(touch taken)\x1b[8;5m\x9b2J\u202e"
"""A name of a run folder"""

STEERS = re.compile(
    "[^\n\t\x20-\x7e\xa0-\U0010ffff]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Written down again, so that the code is not tested against itself"""
RICH = re.compile(r"\x1b\[(?:[\d;]*m|2K|\d*A|\?25[lh])|\r")
"""Colours, and what a live display writes"""

TASK = f"train/000{BAD}"

MODULE = f'''
"""An environment whose tasks, observations and actions are hostile, and parts that are as bad."""
from d2skill.testing import TinyEnvironment, TinyEmbedder, TinyPolicy, TinyReflector, TinyTracker
from d2skill.types import Observation, Task

BAD = {BAD!r}


class Hostile(TinyEnvironment):
    def task_ids(self, split):
        return [id + BAD for id in super().task_ids(split)]

    def start(self, task_id):
        return Session(super().start(task_id.removesuffix(BAD)))

    def expert(self, task, hints, seed):
        return Expert(super().expert(good(task), hints, seed))


def good(task):
    return Task(task.id, task.text.removesuffix(BAD), task.split, task.kind.removesuffix(BAD))


def bad(seen):
    return Observation(seen.text + BAD, tuple(one + BAD for one in seen.actions), seen.done, seen.success)


class Session:
    def __init__(self, inner):
        self._inner, task = inner, inner.task
        self.task = Task(task.id + BAD, task.text + BAD, task.split, task.kind + BAD)
        self.observation = bad(inner.observation)

    def step(self, action):
        self.observation = bad(self._inner.step(action.removesuffix(BAD)))
        return self.observation


class Expert:
    def __init__(self, inner):
        self._inner = inner

    def act(self, seen):
        actions = tuple(one.removesuffix(BAD) for one in seen.actions)
        return self._inner.act(Observation(seen.text.removesuffix(BAD), actions)) + BAD


class Broken:
    def task_ids(self, split):
        return [split + BAD]

    def start(self, task_id):
        raise ValueError(BAD)


class Policy(TinyPolicy):
    def decide(self, *given, **more):
        raise ValueError(BAD)


class Reflector(TinyReflector):
    def reflect(self, *given, **more):
        raise ValueError(BAD)


class Embedder(TinyEmbedder):
    def embed(self, *given, **more):
        raise ValueError(BAD)


class Tracker(TinyTracker):
    def log(self, metrics):
        raise ValueError(BAD)
'''

SMALL = [
    *(
        "--env",
        "hostile_parts:Hostile",
        "--rollout.tasks",
        "2",
        "--rollout.group-size",
        "2",
        "--rollout.with-skills",
        "1",
    ),
    *("--warm-start.tasks", "4", "--validation.tasks", "4", "--validation.every", "2", "--train.checkpoint-every", "1"),
]


def hostile_skill(id: str, **more) -> Skill:
    text = SkillText(f"title {BAD}", f"principle {BAD}", f"when {BAD}")
    return Skill(id, "task", text, f"task {BAD}", source_task=TASK, **more)


def write_banks(folder: Path) -> None:
    """Puts hostile skills and events about them into the run's bank, and into two others, of which one is damaged."""
    skills = [hostile_skill(f"t{number}", utility=0.1, credits=number) for number in range(101, 108)]
    skills.append(Skill("t108", "task", SkillText("A title", "Look into the box.", "always"), "look"))
    embedder = Journal(folder / NAME / "bank.db").embedder
    from_records(folder / "other.db", embedder, skills[:4], source=BAD)
    from_records(folder / "clean.db", embedder, [])
    from_records(folder / "damaged.db", embedder, [hostile_skill(f"u{BAD}")])
    marks = {id: Mark("held", 1, f"reason {BAD}") for id in ("t104", "t108")} | {
        "t105": Mark("evicted", 1, f"reason {BAD}")
    }
    revised = SkillText(f"another {BAD}", f"principle {BAD}", f"when {BAD}")
    with JournalWriter(folder / NAME / "bank.db") as writer:
        for event in (
            Insert(tuple(skills), 2, {"reflector": BAD, "split": BAD, BAD: BAD}, marks=marks),
            Retrieve({"t101": 2}, 2),
            Credit(
                {"t101": [0.5, 1.0]}, {"task": 0.1, "step": 0.1}, 2, sources=(TASK, f"{TASK}x"), by={"t101": [0, 1]}
            ),
            Support({"t102": [TASK]}, 2),
            Refute({"t102": [f"{TASK}x"]}, 2),
            Repeat({"t103": [TASK]}, 2),
            Revise({"t103": revised}, 2),
            Change("merged", ("t106",), 2, f"reason {BAD}", into="t107"),
            Note("t101", f"note {BAD}", 2),
        ):
            writer.append(event)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the parts, a run in which everything is hostile, and banks."""
    folder, before = tmp_path_factory.mktemp("place"), Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, "")
    try:
        (folder / "hostile_parts.py").write_text(MODULE)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            main(["train", *SMALL, "--train.iterations", "2", "--out", NAME])
        write_banks(folder)
        yield folder
    finally:
        os.chdir(before)
        sys.path.remove("")
        sys.modules.pop("hostile_parts", None)


@pytest.fixture
def there(place, tmp_path, monkeypatch):
    """A copy of it to work in, with a wide terminal of no colours."""
    shutil.copytree(place, tmp_path / "copy", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "copy")
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "9999")
    (tmp_path / "copy" / "bad.jsonl").write_text(json.dumps({"messages": BAD, BAD: BAD}) + "\n")
    (tmp_path / "copy" / "bad.toml").write_text(f"[{json.dumps(BAD)}]\n", "utf-8")
    (tmp_path / "copy" / "models" / "smollm2").mkdir(parents=True)
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "copy"))
    monkeypatch.setattr("sys.stdin", io.StringIO("?\nlist\nhint\n1\n2\nundo\nopen\nquit\n"))
    return tmp_path / "copy"


def said_by(*words) -> tuple[str, str, int]:
    """Runs a command in this process; returns what it prints, what it says of errors, and its exit status."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        except Exception as error:  # as `main` has it printed when it is the whole process
            print_traceback(type(error), error, error.__traceback__)
    return out.getvalue(), err.getvalue(), status


def fault(said: str) -> str:
    """Returns in words what is wrong with a text in a terminal, "" if nothing is."""
    if found := STEERS.search(said):
        return f"{found[0]!r} in {said[max(0, found.start() - 200) : found.end() + 40]!r}"
    if "Traceback" in said:
        return said
    bare = said.replace(f"BRK{BRACKETS}BRK", "")
    return bare[max(0, bare.index("BRK") - 200) :][:400] if "BRK" in bare else ""


CALLS = {
    "doctor": [["--config", f"{NAME}/config.toml"], ["--config", NAME], ["--model", BAD.replace("\x00", "")]],
    "plan": [["--config", f"{NAME}/config.toml"], ["--config", NAME], ["--help", "--config", f"{NAME}/config.toml"]],
    "train": [
        [*SMALL, "--train.iterations", "1", "--out", f"{NAME}2"],
        [*SMALL, "--train.iterations", "1", "--out", NAME],
        [*SMALL, "--train.iterations", "1", "--out", f"{NAME}3", "--track", "hostile_parts:Tracker"],
        [*SMALL, "--train.iterations", "1", "--env", "hostile_parts:Broken"],
        [*SMALL, "--train.iterations", "1", "--out", f"{NAME}4", "--bank.start", "other.db"],
        ["--env", BAD],
        ["--config", NAME],
        ["--help", "--config", f"{NAME}/config.toml"],
        ["--help-all", "--config", f"{NAME}/config.toml"],
        [f"--{BAD}"],
        ["--seed", BAD],
    ],
    "resume": [[NAME], [f"{NAME}x"], [NAME, "--processes", BAD]],
    "sft": [
        ["--help"],
        [f"{NAME}/none.jsonl", "--out", "model"],
        ["bad.jsonl", "--out", "model"],
        ["bad.jsonl", "--out", NAME],
    ],
    "evaluate": [
        [NAME],
        [NAME, "--arms", "none,bank,top", "--bank", "other.db"],
        [NAME, "--arms", BAD],
        [NAME, "--split", BAD],
    ],
    "ablate": [
        ["--help"],
        ["--seeds", "1", "--rows", BAD],
        ["--seeds", BAD],
        [*SMALL, "--seeds", "1", "--jobs", "0", "--out", NAME],
    ],
    "compare": [[NAME], [NAME, NAME], [NAME, f"{NAME}/checkpoints"], [NAME, "--names", BAD]],
    "bank list": [
        [NAME],
        ["damaged.db"],
        [NAME, "--status", "all", "--sort", "worth"],
        ["other.db"],
        [f"{NAME}x"],
        [NAME, "--limit", "1"],
    ],
    "bank show": [[NAME, "t101"], [NAME, "t104"], ["other.db", "t101"], [NAME, f"x{BAD}"]],
    "bank search": [[NAME, "title"], [NAME, "nothing of the kind"], [NAME, BAD], ["other.db", "principle"]],
    "bank blame": [[NAME, id] for id in ("t101", "t102", "t103", "t106", "t107", BAD)]
    + [[NAME, "t101", "--signals"], [NAME, "t105", "--all"], ["other.db", "t101"]],
    "bank diff": [[NAME, "--from", "1"], [NAME, "other.db"], [NAME], [NAME, f"{NAME}x"]],
    "bank stats": [[NAME], ["other.db"], [NAME, "--at", "99"]],
    "bank merge": [
        [NAME, "--similarity", "0.5"],
        [NAME, "--similarity", "0.5", "--dry-run"],
        [NAME, "--similarity", "9"],
    ],
    "bank admit": [[NAME, "t108"], [NAME, "t106"], [NAME, "t104"], [NAME, "t105"], [NAME, BAD]],
    "bank hold": [[NAME, "t101", "t102", "--reason", BAD], [NAME, BAD, "--reason", "no"]],
    "bank note": [[NAME, "t101", BAD], [NAME, BAD, "seen"]],
    "bank undo": [[NAME, "--event", "1"], [NAME], [NAME, "--to", "99"]],
    "bank export": [
        *([NAME, f"{NAME}.{form}", "--format", form] for form in ("jsonl", "release", "skill-md")),
        [NAME, NAME],
    ],
    "bank import": [
        [NAME, "new.db"],
        ["other.db", f"{NAME}.db"],
        ["damaged.db", "new.db"],
        [NAME, NAME],
        ["bad.jsonl", "new.db"],
        ["bad", "new.db"],
    ],
    "bank reembed": [[NAME, "new.db", "--dimension", "64"], ["other.db", f"{NAME}.db"], [NAME, NAME]],
    "bank verify": [
        ["clean.db"],
        [NAME],
        ["other.db"],
        ["damaged.db"],
        [NAME, "--panel", f"{NAME}/tasks.json"],
        [f"{NAME}/config.toml"],
    ],
    "bank salvage": [[NAME, f"{NAME}.db"], [NAME, NAME], [f"{NAME}/config.toml", "new.db"]],
    "config list": [[]],
    "config show": [[f"{NAME}/config.toml"], [NAME], ["bad.toml"]],
    "models list": [[]],
    "models fetch": [["smollm2"], [BAD]],
    "play": [
        [TASK, "--env", "hostile_parts:Hostile", "--save", f"{NAME}.jsonl"],
        [TASK, "--env", "hostile_parts:Hostile", "--max-steps", "1"],
        [TASK, "--env", "hostile_parts:Broken"],
        [BAD, "--env", "hostile_parts:Hostile"],
        ["--env", "hostile_parts:Hostile", "--split", BAD],
        ["--replay", NAME],
        ["--replay", NAME, "--number", "1"],
        ["--replay", NAME, "--iteration", "0"],
        ["--replay", NAME, "--iteration", "0", "--number", "1"],
        ["--replay", NAME, BAD],
        ["--replay", NAME, "--iteration", "99"],
        ["--replay", f"{NAME}x"],
    ],
    "houses": [[f"{NAME}h", "--count", "1", "--panel", "1"], [NAME]],
    "calibrate": [["--env", "hostile_parts:Hostile"], ["--config", NAME], ["--kind", BAD]],
    "check-env": [
        ["hostile_parts:Hostile"],
        ["hostile_parts:Broken"],
        ["hostile_parts:No"],
        [BAD],
        ["houses", "--args", BAD],
    ],
    "check-policy": [["d2skill.testing:TinyPolicy"], ["hostile_parts:Policy"], [BAD]],
    "check-reflector": [["d2skill.testing:TinyReflector"], ["hostile_parts:Reflector"], [BAD]],
    "check-embedder": [["d2skill.testing:TinyEmbedder"], ["hostile_parts:Embedder"], [BAD]],
    "check-tracker": [["d2skill.testing:TinyTracker"], ["hostile_parts:Tracker"], [BAD]],
    "init": [["policy", "mine"], ["env", BAD], ["env", "hostile_parts"]],
    "completion": [["bash"], ["zsh"], ["fish"], [BAD]],
    "__complete": [["bank", "show", NAME, ""], ["evaluate", ""], ["bank", "list", ""]],
}
TRIED = [(name, arguments) for name, calls in CALLS.items() for arguments in calls]


def test_no_command_is_forgotten():
    assert CALLS.keys() == {*COMMANDS, "__complete"}


@pytest.mark.parametrize(("name", "arguments"), TRIED, ids=lambda value: value if isinstance(value, str) else "")
def test_nothing_that_a_command_prints_steers_the_terminal(name, arguments, there):
    out, err, status = said_by(*name.split(), *arguments)
    assert out or err or name == "__complete"
    assert fault(out) == "" and fault(err) == ""
    assert status == 0 or arguments != CALLS[name][0], err  # so that each is seen at work as well


FIRST = [(name, calls[0]) for name, calls in CALLS.items() if "--help" not in calls[0]]


@pytest.mark.parametrize(("name", "arguments"), [one for one in FIRST if one[0] != "__complete"])
def test_json_has_no_character_that_steers(name, arguments, there):
    out, err, status = said_by(*name.split(), *arguments, "--json")
    assert status == 0 and out.isascii() and STEERS.search(out) is None and fault(err) == ""
    json.loads(out)


@pytest.mark.parametrize(("name", "arguments"), FIRST)
def test_with_colours_the_codes_are_those_of_rich_alone(name, arguments, there, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for said in said_by(*name.split(), *arguments)[:2]:
        assert fault(RICH.sub("", said)) == "" and "\x1b[8;5m" not in said


NAMES = [
    "m3[/x]",
    "[red]",
    "a[0-9]*?",
    "sp ace",
    "$(touch taken)",
    "`touch taken`",
    "a;touch taken",
    "quote'\"",
    "{a,b}",
    "%41#?&",
]
NAMES += ["ünï 中文", "\N{FIRE}", "two\nlines", "back\\slash", ":smile:", "~", "\x1b[31m", "\u202eevil", "tab\tbed"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_is_found_shown_and_gone_on_with(name, there):
    Path(name).parent.mkdir(exist_ok=True)
    Path(NAME).rename(name)
    Path(name, "summary.json").unlink()
    calls = [["bank", verb, name] for verb in ("list", "verify", "stats")] + [["bank", "show", name, "t101"]]
    calls += [["bank", "undo", name, "--event", "1"], ["resume", name], ["resume", name], ["play", "--replay", name]]
    calls += [["compare", name], ["evaluate", name], ["config", "show", f"{name}/config.toml"]]
    for words in calls:
        out, err, status = said_by(*words)
        assert fault(out) == "" and fault(err) == "" and status in (0, 2 * (words[1] == "verify"))
        if words[:2] in (["bank", "show"], ["bank", "undo"]) and name == visible(name).expandtabs():  # can be copied
            found = re.findall(r"`d2skill (.*?)`(?= shows its| takes this)", out, re.DOTALL)
            assert found and name in shlex.split(found[0])
    assert not Path("taken").exists()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_names_that_a_shell_completes_are_not_run(there):
    runs = there / "runs"
    for name in NAMES:
        shutil.copytree(NAME, runs / f"a{name}", ignore=shutil.ignore_patterns("*.gz", "rollouts", "checkpoints"))
    script = f"""
    d2skill() {{ {shlex.quote(sys.executable)} -m d2skill "$@"; }}
    source <(d2skill completion bash)
    COMP_WORDS=(d2skill bank list runs/a); COMP_CWORD=3; _d2skill
    eval "words=(${{COMPREPLY[*]}})"; printf '%s\\n' "${{words[@]}}"  # as if each were entered
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=True)
    whole = [f"runs/a{name}" for name in NAMES if not STEERS.search(name) and "\n" not in name]
    assert sorted(done.stdout.splitlines()) == sorted(whole)
    assert fault(done.stdout) == "" and not Path("taken").exists()


TEXTS = st.text(st.one_of(st.characters(), st.sampled_from(STEERING + BRACKETS + "\n\t")))


@example("\U000e0080")
@given(TEXTS)
def test_what_is_visible_steers_nothing_and_says_all_else(text):
    seen = visible(text)
    assert STEERS.search(seen) is None and visible(seen) == seen
    assert [c for c in text if c.isalnum()] == [
        c for c in seen.replace("\\u", "").replace("\\U", "") if c.isalnum()
    ] or "\\" in seen
    shown = all(c in "\n\t" or (c.isprintable() and unicodedata.category(c)[0] != "M") for c in text)
    if shown and STEERS.search(text) is None and not re.search("[\u115f\u1160\u3164\uffa0]", text):
        assert seen == text


@given(TEXTS, st.booleans())
def test_no_table_or_text_of_rich_lets_a_character_through(text, forced):
    console = Terminal(
        file=io.StringIO(), width=80, force_terminal=forced, color_system="truecolor" if forced else None
    )
    table = Table("a", text, title=text, caption=text)
    table.add_row(text, shown(text, "bold"))
    console.print(table, text, shown(text, "red"))
    assert (
        STEERS.search(RICH.sub("", console.file.getvalue()).replace("\r", "\0" if "\r" in text and not forced else ""))
        is None
    )


def test_warnings_are_visible(caplog):
    logger("d2skill.attacked").warning("%s lists no model %s", BAD, NAME)
    assert fault(caplog.text) == "" and BRACKETS in caplog.text


def test_a_traceback_is_visible(there):
    call = ["check-embedder", "hostile_parts:Embedder"]  # a part may also fail while it is imported
    Path("hostile_parts.py").write_text(f"raise SystemError({BAD!r})")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    done = subprocess.run([sys.executable, "-m", "d2skill", *call], capture_output=True, env=environment, timeout=120)
    said = done.stderr.decode()
    assert done.returncode and STEERS.search(said) is None and BRACKETS in said


def test_a_summary_on_any_console_shows_titles_as_they_are(tmp_path):
    skills = [hostile_skill("t1", credits=1), hostile_skill("t2", credits=2)]
    console = Console(file=io.StringIO(), width=2000)
    console.print(skills_table(skills))
    assert fault(console.file.getvalue()) == "" and console.file.getvalue().count(BRACKETS) == 2


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_data(self, data):
        self.texts.append(data)


WEB = [
    "<script>alert(1)</script>",
    "</td></tr></table><img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "'\"><svg/onload=x>",
    BAD,
]


WEB += ["--><script>", "]]>", "<![CDATA["]


@pytest.mark.parametrize("text", WEB)
def test_html_and_svg_have_no_element_of_a_text(text, there):
    name = text.replace("/", "_").replace("\0", "")
    from_records(
        there / "web.db", Journal(Path("other.db")).embedder, [Skill("t1", "task", SkillText(text, "b", "c"), "d")]
    )
    shutil.copytree(NAME, there / name)
    bank = SkillBank.open(there / "web.db")
    for page in (bank._repr_html_(), Run(there / name)._repr_html_()):
        found = Tags(page)
        assert {tag for tag, _ in found.tags} <= {"p", "table", "thead", "tbody", "tr", "th", "td"}
        assert not any(attrs for _, attrs in found.tags) and STEERS.search(page) is None
    plain = Console(file=io.StringIO(), width=9999)
    plain.print(bank)
    assert fault(plain.file.getvalue()) == "" and visible(text) in plain.file.getvalue()
    assert STEERS.search(repr(bank) + repr(Run(there / name))) is None


@pytest.mark.parametrize("text", [*WEB, "costs $5 and $x^", "_hidden", r"\\frac{1}{2}$$", "--"])
def test_a_plot_says_each_name_as_it_is(text, tmp_path):
    band = {"where": [0.0, 1.0], "mean": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3], "shows": "range"}
    group = {"name": text, "seeds": [0], "by_env_steps": band, "by_seconds": band}
    plots.plot_curves({"groups": [group]}, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text("utf-8")
    assert STEERS.search(drawn) is None
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    nodes = list(ElementTree.fromstring(drawn, parser).iter())
    assert not {"script", "img"} & {node.tag.rpartition("}")[2] for node in nodes if isinstance(node.tag, str)}
    drawn_texts = [unescape(node.text or "") for node in nodes if node.tag is ElementTree.Comment]
    assert any(visible(text).replace("--", "- -") in drawn for drawn in drawn_texts)


def doors(path: Path) -> set[str]:
    """Returns the calls in a file that write to a terminal past `Terminal`, or make something that does."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    names = {ast.unparse(function) for function in calls}
    return {
        name
        for name in names
        if re.fullmatch(r"print|Console|.*(std(out|err)\.write|getLogger|from_markup|print_exc)", name)
    }


def test_nothing_else_writes_to_the_terminal():
    source = Path(d2skill.__file__).parent
    found = {(path.relative_to(source).as_posix(), door) for path in source.rglob("*.py") for door in doors(path)}
    assert found <= {
        ("utils/foreign_text.py", "logging.getLogger"),
        ("utils/foreign_text.py", "sys.stdout.write"),
        ("utils/foreign_text.py", "sys.stderr.write"),
        ("cli/output.py", "sys.stdout.write"),  # JSON
        ("cli/complete.py", "sys.stdout.write"),  # words without such characters
        ("cli/models.py", "sys.stderr.write"),  # words of our own
        ("config/key_hosts.py", "sys.stderr.write"),  # made visible
    }


@pytest.mark.parametrize(
    "text", [*WEB, "![x](http://e/t.png)", "[click](javascript:alert(1))", "[a]: http://e", "<http://e>"]
)
@pytest.mark.parametrize("form", ["skill-md", "one-skill"])
def test_markdown_has_neither_html_nor_links_of_a_text(text, form, there):
    skill = Skill("t1", "task", SkillText(f"T {text}", f"P {text}", f"W {text}"), "d")
    from_records(there / "web.db", Journal(Path("other.db")).embedder, [skill])
    _, err, status = said_by("bank", "export", "web.db", "skills", "--format", form)
    assert status == 0, err
    [file] = Path("skills").rglob("SKILL.md")
    body = file.read_text("utf-8").split("\n---\n", 1)[1]
    assert STEERS.search(file.read_text("utf-8")) is None
    assert re.search(r"<[A-Za-z/!?]|\]\(|\]:", body) is None and body.count("T ") >= 1
    if form == "skill-md":
        [read_again] = skill_md.read(Path("skills"))
        assert (read_again.title, read_again.principle, read_again.when_to_apply) == astuple(skill.text)
