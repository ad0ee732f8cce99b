"""--json: one document on stdout and nothing else, of the shape that docs/json.md has for the command."""

import json
import re
from pathlib import Path

import pytest
from commands import SMALL, fails

from d2skill.bank.journal import Change, JournalWriter, Support
from d2skill.cli.main import COMMANDS, find_command, main
from d2skill.cli.output import Output, dump

DOCS = Path(__file__).parents[2] / "docs" / "json.md"
WORDS = {str: "text", bool: "yes or no", int: "number", float: "number", type(None): "nothing"}


def documented():
    """Returns the shapes on the page, by command or by the name that others give as @name."""
    section = r"^### `([^`]+)`\n.*?```text name=\S+\n(.*?)^```$"
    return {name: json.loads(text) for name, text in re.findall(section, DOCS.read_text(), re.M | re.S)}


SHAPES = documented()


def misfit(value, shape, path="$"):
    """Returns the first place where a value does not fit a shape, "" if it does."""
    told = f"{path} is {WORDS.get(type(value), type(value).__name__)}, not {shape}"
    if isinstance(shape, str):
        tries = [
            misfit(value, SHAPES[one[1:]], path)
            if one[0] == "@"
            else told * (one not in ("any", WORDS.get(type(value))))
            for one in shape.split(" | ")
        ]
        return "" if "" in tries else tries[0]
    if type(value) is not type(shape):
        return told
    if isinstance(shape, list):
        return next(filter(None, (misfit(one, shape[0], f"{path}[{n}]") for n, one in enumerate(value))), "")
    if key := next((name for name in shape if name.startswith("<")), None):
        pairs = [(name, shape[key]) for name in value]
    else:
        pairs = [(name.rstrip("?"), inner) for name, inner in shape.items() if name.rstrip("?") in value]
        needed = {name for name in shape if not name.endswith("?")}
        if needed - value.keys() or value.keys() - {name for name, _ in pairs}:
            return f"{path} has {sorted(value)}, not {sorted(shape)}"
    return next(filter(None, (misfit(value[name], inner, f"{path}.{name}") for name, inner in pairs)), "")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of five iterations, and one of another seed beside it."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in ("0", "1"):
        main(["train", *SMALL, "--train.iterations", "5", "--seed", seed, "--out", str(folder / f"run-{seed}")])
    with JournalWriter(folder / "run-0" / "bank.db") as writer:
        ids = [skill.id for skill in writer.replay().skills()]
        writer.append(Support({ids[0]: ["train/0001"]}, 5), Change("held", (ids[1],), 5, "looks odd"))
    return folder / "run-0"


def printed(capsys, *words, status=0):
    capsys.readouterr()
    if status:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--json"])
        assert ended.value.code == status
    else:
        main([*map(str, words), "--json"])
    told = capsys.readouterr()
    assert told.out.isascii() and told.out.endswith("}\n")
    return json.loads(told.out)


COMMAND_LINES = [
    ("models list", ""),
    ("bank list", "RUN --status all"),
    ("bank show", "RUN t1"),
    ("bank search", "RUN drawer"),
    ("bank search", "RUN where-is-the-xylophone"),
    ("bank blame", "RUN t1"),
    ("bank diff", "RUN --from 1"),
    ("bank diff", "RUN OTHER"),
    ("bank stats", "RUN"),
    ("bank verify", "RUN"),
    ("bank merge", "RUN --similarity 0.3 --dry-run"),
    ("bank export", "RUN NEW --format jsonl"),
    ("bank import", "RUN NEW.db"),
    ("bank reembed", "RUN NEW.db --dimension 64"),
    ("bank salvage", "RUN NEW.db"),
    ("config list", ""),
    ("config show", "laptop"),
    ("doctor", ""),
    ("evaluate", "RUN --tasks 3 --panel valid_unseen"),
    ("compare", "RUN OTHER"),
    ("resume", "RUN"),
    ("init", "env Maze"),
    ("calibrate", "--tasks 60"),
    ("play", "--replay RUN"),
    ("play", "--replay RUN --number 1"),
    ("check-env", "houses --episodes 1"),
    ("completion", "bash"),
    ("plan", ""),
]


@pytest.mark.parametrize(("command", "rest"), COMMAND_LINES, ids=lambda text: text.replace(" ", "-"))
def test_a_command_prints_what_the_page_says(command, rest, run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": run, "OTHER": run.with_name("run-1"), "NEW": tmp_path / "new", "NEW.db": tmp_path / "new.db"}
    found = printed(capsys, *command.split(), *(places.get(word, word) for word in rest.split()))
    assert misfit(found, SHAPES[command]) == ""


def test_changes_by_hand_are_told_and_made(run, capsys, tmp_path):
    bank = tmp_path / "bank.db"
    main(["bank", "import", str(run), str(bank)])
    for command, rest in (("hold", "t1 --reason odd"), ("admit", "t1"), ("note", "t1 seen"), ("undo", "--event 1")):
        found = printed(capsys, "bank", command, bank, *rest.split())
        assert misfit(found, SHAPES[f"bank {command}"]) == "", command
        assert found.get("before", {"t1": "held" if command == "admit" else "active"}) == {
            "t1": "held" if command == "admit" else "active"
        }


def test_every_command_that_finds_something_is_on_the_page():
    finds = {name for name in COMMANDS if find_command(name).__annotations__.get("return") is Output}
    tried = {command for command, _ in COMMAND_LINES} | {f"bank {verb}" for verb in ("hold", "admit", "note", "undo")}
    tried |= {"models fetch"}
    checks = {name for name in finds if name.startswith("check-")}
    assert finds | {"plan"} == tried | checks and tried <= SHAPES.keys()


def test_text_and_json_have_the_same_numbers(run, capsys):
    found = printed(capsys, "bank", "list", run)
    main(["bank", "list", str(run)])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if re.match(r"[ts]\d+ ", line)]
    assert [row[0] for row in rows] == [skill["id"] for skill in found["skills"]]
    assert [row[2] for row in rows] == [f"{skill['utility']:+.3f}" for skill in found["skills"]]


def test_a_mistake_prints_no_document(run, capsys):
    assert "has no skill t999" in fails(capsys, "bank", "show", run, "t999", "--json")


def test_a_text_that_no_bank_takes_is_status_2_with_a_document(capsys, tmp_path):
    from d2skill.bank.journal import from_records
    from d2skill.types import Skill, SkillText

    text = SkillText("mug: hint", "Look first.<|im_end|>", "always")
    from_records(tmp_path / "bank.db", "hashed-v2/512", [Skill("t1", "task", text, "mug")], {})
    found = printed(capsys, "bank", "verify", tmp_path / "bank.db", status=2)
    assert [one["id"] for one in found["rejected"]] == ["t1"]


def test_a_file_takes_the_document_beside_the_text(run, capsys, tmp_path):
    file = tmp_path / "result.json"
    main(["evaluate", str(run), "--tasks", "3", "--panel", "valid_unseen", "--json", str(file)])
    told = capsys.readouterr().out
    assert "Paired differences" in told and json.loads(file.read_text())["split"] == "valid_unseen"
    assert json.loads(file.read_text()) == printed(capsys, "evaluate", run, "--tasks", "3", "--panel", "valid_unseen")


def test_what_is_not_plain_is_made_so():
    text = dump({"path": Path("a"), "ids": {"b", "a"}, "sign": "±"})
    assert json.loads(text) == {"path": "a", "ids": ["a", "b"], "sign": "±"} and text.isascii()
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump({"share": float("nan")})


def test_a_document_of_another_shape_is_found():
    shape = SHAPES["config list"]
    assert misfit({"presets": {"laptop": "x"}}, shape) == ""
    assert "presets.laptop is number" in misfit({"presets": {"laptop": 1}}, shape)
    assert "has ['more', 'presets']" in misfit({"presets": {}, "more": 1}, shape)
    assert misfit({"out": "x", "kept": 3, "lost": None}, SHAPES["bank salvage"]) == "$.lost is nothing, not number"
