"""The environment over a shop made here: tasks, pages as observations, the scripted shopper, a run from end to end."""

import json
from itertools import chain, pairwise

import pytest

from d2skill.cli.main import main
from d2skill.config import EnvConfig, WebshopConfig
from d2skill.envs import make_environment
from d2skill.envs.webshop import Catalogue, make_goals
from d2skill.envs.webshop.instruction import parse_instruction
from d2skill.errors import ConfigError
from d2skill.protocols import Environment, SupportsExpert
from d2skill.testing import check_environment

COLOURS = ("red", "blue", "green", "black")
THINGS = ("mug", "lamp", "desk", "shirt", "towel", "pillow", "candle", "basket", "mirror", "clock")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with the original's small files: 60 products, each in one of two sizes."""
    folder = tmp_path_factory.mktemp("webshop")
    products, attributes = [], {}
    for number in range(60):
        thing, colour = THINGS[number % 10], COLOURS[number % 4]
        asin = f"B{number:09d}"
        products.append(
            {
                "asin": asin,
                "name": f"Fine {thing} by maker {number // 10}",
                "full_description": f"A {thing} for every day.",
                "small_description": [f"good {thing}"],
                "pricing": f"${10 + number}.50",
                "category": "home",
                "query": thing,
                "product_category": f"Home › {thing}s",
                "images": [""],
                "customization_options": {
                    "color": [{"value": colour}, {"value": "white"}],
                    "size": [{"value": "small"}, {"value": "large"}],
                },
            }
        )
        attributes[asin] = {
            "attributes": ["solid", f"maker {number // 10}"],
            "instruction": f"Find me solid {thing} of maker {number // 10}",
            "instruction_attributes": ["solid", f"maker {number // 10}"],
        }
    files = {
        "items_shuffle_1000.json": products,
        "items_ins_v2_1000.json": attributes,
        "items_human_ins.json": {
            f"B{number:09d}": [
                {
                    "instruction": f"i am looking for a {COLOURS[number % 4]} {thing}{end}",
                    "instruction_attributes": ["solid"],
                    "instruction_options": [COLOURS[number % 4]],
                }
                for end in (".", " for every day.")
            ]
            for number, thing in enumerate(THINGS)
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keeps catalogues of tests out of the user's caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2SKILL_CACHE", str(tmp_path_factory.mktemp("caches")))
        yield


def made(data, **settings) -> Environment:
    return make_environment(EnvConfig(kind="webshop", data=data, webshop=WebshopConfig(**settings)))


@pytest.fixture(scope="session")
def shop(data, cache):
    return made(data)


def test_it_keeps_the_rules_of_environments(shop):
    assert isinstance(shop, Environment) and isinstance(shop, SupportsExpert)
    assert [finding.detail for finding in check_environment(shop) if not finding.ok] == []


def test_goals_are_in_one_split_each_and_the_same_each_time(shop, data):
    splits = {name: shop.task_ids(name) for name in ("train", "validation", "test")}
    assert [len(ids) for ids in splits.values()] == [192, 24, 24]
    assert len(set().union(*splits.values())) == 240
    assert all(made(data).task_ids(name) == ids for name, ids in splits.items())
    assert made(data, seed=1).task_ids("train") != splits["train"]
    assert shop.task_ids("published-test") == tuple(f"synthetic/{n:05d}" for n in range(240))
    with pytest.raises(ConfigError, match="published-train is empty"):
        shop.task_ids("published-train")
    for name, ids in splits.items():
        assert shop.start(ids[0]).task.split == name
    assert made(data, goals="human").start("human/00000").task.text.startswith("i am looking for a ")


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_splits_by_product_are_of_unseen_products(data, goals):
    names = ("train", "validation", "test")
    by_goal, by_product = made(data, goals=goals), made(data, goals=goals, split_by="product")
    splits = {name: by_product.task_ids(name) for name in names}
    assert sorted(chain(*splits.values())) == sorted(chain(*map(by_goal.task_ids, names)))
    assert [len(ids) for ids in splits.values()] == ([192, 24, 24] if goals == "synthetic" else [16, 2, 2])
    asins = [goal.asin for goal in make_goals(Catalogue.load(data), human=goals == "human").goals]
    products = [{asins[int(task_id.partition("/")[2])] for task_id in ids} for ids in splits.values()]
    assert len(set().union(*products)) == sum(map(len, products)) == (60 if goals == "synthetic" else 10)
    assert all(by_product.start(task_id).task.split == name for name, ids in splits.items() for task_id in ids)
    assert all(made(data, goals=goals, split_by="product").task_ids(name) == ids for name, ids in splits.items())
    assert made(data, goals=goals, split_by="product", seed=1).task_ids("test") != splits["test"]
    with pytest.raises(ConfigError, match='no split "valid_seen": name one of train, validation, test, published'):
        by_product.task_ids("valid_seen")


def test_splits_by_product_can_be_checked_from_the_command_line(data, tmp_path, capsys):
    (tmp_path / "own.toml").write_text('[env.webshop]\nsplit_by = "product"\n')
    given = ["--data", str(data), "--split", "test", "--config", str(tmp_path / "own.toml")]
    main(["check-env", "webshop", *given])
    assert "24 tasks in test" in (said := capsys.readouterr().out) and "WRONG" not in said


@pytest.mark.parametrize("task_id", ["synthetic/00240", "human/00000", "synthetic", "synthetic/x"])
def test_a_goal_that_is_not_there_is_named(shop, task_id):
    with pytest.raises(ConfigError, match=f"there is no goal {task_id} among 240 synthetic ones: .* synthetic/0"):
        shop.start(task_id)


@pytest.mark.parametrize("rich", [False, True])
def test_the_page_is_shown_without_the_instruction_and_names_have_labels(data, rich):
    environment = made(data, rich=rich)
    session = environment.start(environment.task_ids("train")[0])
    seen, wanted = [session.observation], parse_instruction(session.task.text)
    first = seen[0]
    assert first.actions == tuple(f"search[{query}]" for query in wanted.queries[:4]) and first.forms == (
        "search[...]",
    )
    assert "click[search]" not in first.actions
    seen.append(session.step("search[solid mug]"))
    product = next(action for action in seen[1].actions if action.startswith("click[b0"))
    assert seen[1].labels[seen[1].actions.index(product)].split()[:2] in (["product", "Fine"], ["costly", "Fine"])
    seen.append(session.step(product))
    seen.append(session.step("click[white]"))
    labels = dict(zip(seen[3].actions, seen[3].labels, strict=True))
    assert labels["click[white]"] == "chosen white" and labels["click[large]"] == "option large"
    assert labels["click[buy now]"].startswith("buy-") and labels["click[buy now]"].endswith(" white")
    assert labels["click[features]"] == "page features" and labels["click[< prev]"] == "previous"
    assert all(session.task.text not in one.text for one in seen)
    assert all(one.score is None and not one.done for one in seen)
    last = session.step("click[buy now]")
    assert last.done and last.actions == last.forms == () and 0 <= last.score <= 1
    assert last.success == (last.score == 1)


def test_any_search_is_admissible_and_nonsense_leaves_the_page(shop):
    session = shop.start(shop.task_ids("train")[0])
    before = session.observation
    assert before.admits("search[whatever there is]") and not before.admits("search[]")
    for action in ("", "click[b000000000]", "dance", "search[]", "click[search]"):
        assert session.step(action) == before


def test_without_suggestions_only_the_form_is_left(data):
    environment = made(data, queries=0)
    first = environment.start(environment.task_ids("train")[0]).observation
    assert first.actions == first.labels == () and first.forms == ("search[...]",)


def test_the_shopper_buys_what_is_asked_for(shop):
    scores = []
    for task_id in shop.task_ids("train")[:40]:
        session = shop.start(task_id)
        expert, seen = shop.expert(session.task, (), 0), [session.observation]
        while not seen[-1].done and len(seen) < 15:
            action = expert.act(seen[-1])
            assert action in seen[-1].actions
            seen.append(session.step(action))
        scores.append(seen[-1].score or 0.0)
    assert sum(score == 1 for score in scores) > 30


def test_hints_come_first(shop):
    session = shop.start(shop.task_ids("train")[0])
    queries = session.observation.actions
    hinted = shop.expert(session.task, [f"Use {queries[-1].upper()} here."], 0).act(session.observation)
    assert hinted == queries[-1]
    results = session.step("search[fine]")
    names = [action for action, label in zip(results.actions, results.labels, strict=True) if label[:8] == "product "]
    for name in names:
        assert shop.expert(session.task, [f"Better take {name[6:-1]}"], 0).act(results) == name
    with pytest.raises(ValueError, match="labels"):
        shop.expert(session.task, (), 0).act(type(results)("A page.", results.actions))


@pytest.mark.parametrize(
    ("instruction", "limit", "options", "query"),
    [
        (
            "Find me solid mug with lid for home with color: red, and fit type: x-large, slim, and price lower than "
            "30.00 dollars",
            30.0,
            ("red", "x-large, slim"),
            "solid mug with lid for home",
        ),
        ("i'm looking for a pair of jeans", None, (), "pair of jeans"),
        ("Find me [odd] things, and price lower than 5.00 dollars", 5.0, (), "odd things"),
        ("", None, (), ""),
    ],
)
def test_an_instruction_is_parsed(instruction, limit, options, query):
    parsed = parse_instruction(instruction)
    assert (parsed.price_limit, parsed.options) == (limit, options)
    assert query in parsed.queries if query else parsed.queries == ()
    assert all("[" not in each and each.strip() for each in parsed.queries)
    assert len(set(parsed.queries)) == len(parsed.queries)


def test_prices_over_the_limit_are_labelled_costly(shop):
    for task_id in shop.task_ids("train")[:5]:
        session = shop.start(task_id)
        limit = parse_instruction(session.task.text).price_limit
        seen = session.step("search[fine]")
        for line, following in pairwise(seen.text.split(" [SEP] ")):
            if line.startswith("B0"):
                label = seen.labels[seen.actions.index(f"click[{line.lower()}]")]
                kind, _, title = label.partition(" ")
                price = float(seen.text.split(f"{title} [SEP] $")[1].split(" ")[0])
                assert title == following and kind == ("costly" if price > limit else "product")


def test_the_preset_trains_with_the_small_policy(data, tmp_path):
    small = ["--train.iterations", "2", "--validation.tasks", "8", "--warm-start.tasks", "30", "--rollout.tasks", "4"]
    main(["train", "--config", "webshop", "--data", str(data), *small, "--out", str(tmp_path / "run")])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 < summary["validation"]["without_skills"]["score"] <= 1
    main(["evaluate", str(tmp_path / "run"), "--split", "test", "--tasks", "6", "--json", str(tmp_path / "test.json")])
    assert json.loads((tmp_path / "test.json").read_text())["arms"]["bank"]["n"] == 6


def test_data_that_is_not_named_or_not_there_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"name their folder with --data or \$WEBSHOP_DATA"):
        made(None)
    with pytest.raises(ConfigError, match=r"lacks items_shuffle_1000.json .*download it with"):
        made(tmp_path)
