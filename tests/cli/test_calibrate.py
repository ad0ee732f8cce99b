"""calibrate and bank reembed, through `main`, and runs with a model as embedder."""

import json
import tomllib

import pytest
from chat_server import ChatServer

from d2skill.bank import Draft, SkillBank
from d2skill.bank.index import KeyIndex
from d2skill.bank.journal import Journal, JournalWriter, Rewind
from d2skill.bank.journal.journal import reembed
from d2skill.cli.calibrate import EmbedderFlags
from d2skill.cli.main import main
from d2skill.config import BankConfig, CreditConfig, RetrievalConfig
from d2skill.config.toml_files import parse
from d2skill.embedders import make_embedder
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import BankError
from d2skill.types import SkillText

SMALL = [
    *("--env.houses.floor-plans", "2", "--env.houses.games-per-plan", "10", "--env.houses.receptacles", "10"),
    *("--rollout.tasks", "3", "--rollout.group-size", "4", "--rollout.with-skills", "2"),
    *("--warm-start.tasks", "12", "--validation.tasks", "10", "--validation.every", "2"),
    *("--train.checkpoint-every", "2", "--train.iterations", "2"),
]
THINGS = "apple mug pan egg book lamp cd plate".split()


def fails(capsys, *arguments):
    """Runs a command that must fail, and returns the one sentence it says."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("d2skill: ") and said.count("\n") == 1, said
    return said


@pytest.fixture
def journal(tmp_path):
    """A bank of sixteen skills with a history that has been rewound once."""
    path = tmp_path / "bank.db"
    bank = SkillBank(HashedEmbedder(512), BankConfig(), RetrievalConfig(), CreditConfig())
    bank.record(path)
    for iteration, thing in enumerate(THINGS):
        text = SkillText(f"find the {thing}", f"The {thing} lies in drawer {iteration}, so open that.", f"a {thing}")
        room = f"You are in a room. You see a drawer {iteration} and a {thing}."
        keys = [("task", ""), ("step", room)]
        drafts = [Draft(kind, text, f"put a {thing} in the shelf", seen, f"train/{iteration}") for kind, seen in keys]
        bank.insert(drafts, iteration)
        bank.count_retrievals({f"t{iteration + 1}": 2})
        bank.credit({f"t{iteration + 1}": [0.5, -0.25]}, {f"t{iteration + 1}": ["train/0#0", "train/0#1"]})
    bank.close()
    with JournalWriter(path) as writer:
        writer.snapshot(every=0)
        writer.append(Rewind(15, 7))
    return path


def everything(path):
    own = Journal(path)
    return list(own.events(rewound=True)), own.replay().dump(), own.replay(at=2).dump()


def test_a_reembedded_journal_is_the_same_but_for_the_embedder(journal, tmp_path):
    before = journal.read_bytes()
    count = reembed(journal, tmp_path / "new.db", "other/8")
    assert everything(tmp_path / "new.db") == everything(journal)
    assert count == Journal(journal).head().seq == Journal(tmp_path / "new.db").head().seq
    assert Journal(tmp_path / "new.db").embedder == "other/8" and Journal(journal).embedder == "hashed-v2/512"
    Journal(tmp_path / "new.db").verify()
    assert journal.read_bytes() == before
    reembed(tmp_path / "new.db", tmp_path / "back.db", "hashed-v2/512")
    assert everything(tmp_path / "back.db") == everything(journal)
    assert Journal(tmp_path / "back.db").head() == Journal(journal).head(), "the same rows have the same checksums"
    with JournalWriter(tmp_path / "new.db") as writer:
        writer.append(Rewind(count, 7))


def test_nothing_is_written_over_and_damage_is_not_carried_on(journal, tmp_path):
    with pytest.raises(BankError, match="exists already"):
        reembed(journal, journal, "other/8")
    data = bytearray(journal.read_bytes())
    at = data.index(b"find the pan")
    data[at : at + 4] = b"lose"
    journal.write_bytes(data)
    with pytest.raises(BankError, match="salvage"):
        reembed(journal, tmp_path / "new.db", "other/8")
    assert not (tmp_path / "new.db").exists()


def test_the_command_makes_a_bank_that_the_new_embedder_opens(journal, tmp_path, capsys):
    out = tmp_path / "new.db"
    main(["bank", "reembed", str(journal), str(out), "--kind", "hashed", "--dimension", "1024"])
    said = " ".join(capsys.readouterr().out.split())
    active = len(Journal(journal).replay().rows("task", "active"))
    assert "for embedder hashed-v2/1024" in said and f"task skills: {active}," in said
    assert "which is the same one for" in said
    bank = SkillBank.open(out, HashedEmbedder(1024))
    assert bank.retrieve_task(["put a mug in the shelf"])[0][0].skill.text.title == "find the mug"
    with pytest.raises(BankError, match="d2skill bank reembed"):
        SkillBank.open(out)
    assert str(out) in fails(capsys, "bank", "reembed", journal, out)
    assert "does not exist" in fails(capsys, "bank", "reembed", journal, tmp_path / "no" / "folder.db")


def test_the_same_embedder_keeps_every_neighbour(journal, tmp_path, capsys):
    main(["bank", "reembed", str(journal), str(tmp_path / "new.db")])
    assert capsys.readouterr().out.count("which is the same one for 100%") == 2


def test_neighbours_are_not_compared_where_the_old_embedder_is_not_known(journal, tmp_path, capsys):
    reembed(journal, tmp_path / "old.db", "somebody-elses/7")
    main(["bank", "reembed", str(tmp_path / "old.db"), str(tmp_path / "new.db")])
    said = " ".join(capsys.readouterr().out.split())
    assert "neighbourhoods are unknown" in said and "somebody-elses/7" in said and "the same one" not in said


def test_calibrate_prints_gates_that_a_settings_file_takes(capsys, tmp_path):
    main(["calibrate", "--tasks", "200", "--json", str(tmp_path / "figures.json")])
    said = capsys.readouterr().out
    config = parse(said.partition("For a TOML file:")[2], "what it printed")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["embedder"] == "hashed-v2/512" and figures["tasks"] == 200
    assert (config.embedder.task_gate, config.embedder.step_gate) == (
        figures["task"]["best_gate"],
        figures["step"]["best_gate"],
    )
    assert figures["step"]["best_balanced_accuracy"] > 0.95 and figures["step"]["gate"] == 0.61
    assert "related" in said and "at or above" in said


def test_calibrate_says_when_a_task_set_has_no_related_pairs(capsys, tmp_path):
    said = fails(capsys, "calibrate", "--env", "toys:TreasureEnvironment")
    assert "take more tasks, or those of another environment" in said
    assert "task" in fails(capsys, "calibrate", "--tasks", "1")
    assert "task" in fails(capsys, "calibrate", "--tasks", "0")


def test_flags_that_do_not_go_together(capsys):
    assert "--url is of --kind openai" in fails(capsys, "calibrate", "--url", "http://localhost:1/v1")
    assert "--model is of" in fails(capsys, "calibrate", "--model", "x")
    assert "--kind openai needs --model" in fails(capsys, "calibrate", "--kind", "openai")
    assert "--dimension is of --kind hashed" in fails(
        capsys, "calibrate", "--kind", "openai", "--model", "x", "--dimension", 64
    )
    assert "dimension = 3" in fails(capsys, "calibrate", "--dimension", 3)


def test_a_served_model_is_calibrated_and_a_bank_reembedded_for_it(journal, tmp_path, capsys):
    pytest.importorskip("openai")
    with ChatServer() as server:
        flags = ["--kind", "openai", "--model", "toy", "--url", server.url, "--cache", str(tmp_path / "cache")]
        main(["calibrate", "--tasks", "100", *flags])
        assert "openai/toy/32, 100 tasks" in capsys.readouterr().out
        main(["bank", "reembed", str(journal), str(tmp_path / "new.db"), *flags])
        assert Journal(tmp_path / "new.db").embedder == "openai/toy/32"
        asked = server.count("/v1/embeddings")
        settings = EmbedderFlags("openai", "toy", server.url, cache=str(tmp_path / "cache")).settings("laptop")
        state = Journal(tmp_path / "new.db").replay()
        KeyIndex(state, make_embedder(settings)).search_set("step")
        assert server.count("/v1/embeddings") == asked + 1, "the keys were in the cache"
    assert server.url in fails(capsys, "bank", "reembed", journal, tmp_path / "other.db", *flags)
    assert not (tmp_path / "other.db").exists()


def test_a_run_trains_resumes_and_searches_with_a_model(capsys, tmp_path, request):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from embedders.toy_models import bert

    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    model = bert(tmp_path / "model")
    out, cache = tmp_path / "run", tmp_path / "cache"
    capsys.readouterr()
    own = ["--embedder.kind", "transformers", "--embedder.model", str(model), "--embedder.cache", str(cache)]
    assert "d2skill calibrate" in fails(capsys, "train", *SMALL, *own, "--out", out)
    assert not out.exists()
    gates = ["--embedder.task-gate", "0.6", "--embedder.step-gate", "0.9"]
    main(["train", *SMALL, *own, *gates, "--out", str(out)])
    embedder = Journal(out / "bank.db").embedder
    assert embedder.startswith("transformers/model@") and len(list(cache.glob("*.db"))) == 1
    assert tomllib.loads((out / "config.toml").read_text())["embedder"]["task_gate"] == 0.6
    main(["resume", str(out)])
    main(["bank", "search", str(out), "zebra"])
    main(["bank", "reembed", str(out), str(tmp_path / "hashed.db")])
    assert Journal(tmp_path / "hashed.db").embedder == "hashed-v2/512"
    capsys.readouterr()
    bert(model, seed=1)
    with pytest.raises(BankError, match="d2skill bank reembed"):
        SkillBank.open(out / "bank.db", make_embedder(parse((out / "config.toml").read_text(), "run").embedder))
