"""Pages and actions against the original's recorded sessions, and its oddities one by one."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webshop_products import options, raw

from d2skill.envs.webshop import Shop, make_goals, plain_nouns

NOT_RECORDED = {"r_type", "title_score"}


def test_all_recorded_sessions_are_played_to_the_letter(catalogue, original):
    pages = purchases = 0
    for session in original["sessions"]:
        shop = Shop(catalogue, original["prices"], plain_nouns)
        page = shop.reset(session["goal"])
        assert (page.text, page.search, page.click) == (session["obs0"], True, ("search",))
        for step in session["steps"]:
            page = shop.step(step["action"])
            assert page.done == step["done"]
            if "obs" in step:
                assert (page.text, page.rich) == (step["obs"], step["rich"]), step["action"]
                assert (page.search, list(page.click)) == (step["search"], step["click"]), step["action"]
                pages += 1
            else:
                assert {k: v for k, v in page.parts.items() if k not in NOT_RECORDED} == step["parts"]
                assert shop.options == step["options"] and shop.product.asin == step["asin"]
                purchases += 1
    assert (pages, purchases) == (425, 51)


@pytest.fixture(scope="module")
def lamps(stocked):
    """A shop of 23 lamps; the first has options of all odd kinds."""
    odd = options(
        Color=["red", "blue", "café", '5" wide'],
        Style=["description", "attributes", "red", "next >", " ", "back to search"],
        Kind=None,
    )
    first = raw("L00", name="Lamp & <b>first</b>", customization_options=odd, small_description=["", " \n", "x"])
    others = [raw(f"L{n:02}", full_description=("", "  ")[n % 2]) for n in range(1, 22)]
    return stocked(
        [
            first,
            *others,
            raw("low", name="Lamp low"),
            raw("CHAIR", name="Chair", full_description="", category="office", query="chairs"),
        ],
        {"L00": {"attributes": ["bright"], "instruction": "Find me lamps", "instruction_attributes": ["bright"]}},
    )


@pytest.fixture
def shop(lamps):
    """A shopper with a goal."""
    made = make_goals(lamps)
    shop = Shop(lamps, made.prices, plain_nouns)
    shop.reset(next(goal for goal in made.goals if goal.options["color"] == "red"))
    return shop


def play(shop, *actions):
    for action in actions:
        page = shop.step(action)
    return page


def test_the_first_page(shop):
    assert shop.page.text.startswith("WebShop [SEP] Instruction: [SEP] Find me lamps with color: red, and style: ")
    assert shop.page.rich.startswith("WebShop\nInstruction: \nFind me lamps")
    assert shop.page.rich.endswith("\n[button] Search [button_]\n")


def test_results_are_shown_by_tens_and_pages_go_on_for_ever(shop):
    page = shop.step("search[Lamp]")
    assert "[SEP] Page 1 (Total results: 23) [SEP] Next > [SEP] low [SEP] Lamp low [SEP] " in page.text
    assert len(page.click) == 12 and page.click[:2] == ("back to search", "next >") and not page.search
    page = play(shop, "click[next >]", "click[Next >]")
    assert "Page 3 (Total results: 23) [SEP] < Prev [SEP] Next > [SEP] " in page.text and len(page.click) == 6
    page = shop.step("click[next >]")
    assert page.text.endswith("Page 4 (Total results: 23) [SEP] < Prev [SEP] Next >")
    assert "Page 3 " in shop.step("click[< prev]").text


def test_what_was_looked_at_is_marked_until_back_to_search(shop):
    page = play(shop, "search[first]", "click[l00]", "click[< prev]")
    assert "\n[clicked button] L00 [clicked button_]\n" in page.rich
    assert "[clicked" not in play(shop, "click[back to search]", "search[first]").rich


def test_options_are_marked_where_the_address_has_them(shop):
    page = play(shop, "search[first]", "click[l00]", "click[blue]")
    assert page.rich.startswith("You have clicked blue.\nInstruction:\n")
    assert shop.options == {"color": "blue"}
    page = shop.step("click[red]")
    assert shop.options == {"color": "blue", "style": "red"}, "of options that share a value the last one has it"
    assert page.rich.startswith("You have clicked red.\nYou have clicked blue.\nYou have clicked red.\nInstruction")
    for odd in ("café", '5" wide'):
        page = shop.step(f"click[{odd}]")
        assert shop.options["color"] == odd and f"clicked {odd}" not in page.rich, "JSON writes them differently"
    assert "You have clicked blue." in play(shop, 'search[first "blue"]', "click[l00]").rich and not shop.options


def test_each_name_is_listed_once(shop):
    page = play(shop, "search[first]", "click[l00]")
    names = '< prev|description|features|reviews|buy now|red|blue|café|5" wide|attributes|next >||'.split("|")
    assert page.click == ("back to search", *names[:-1])


def test_options_stay_on_sub_pages_and_go_with_a_search(shop):
    page = play(shop, "search[first]", "click[l00]", "click[blue]", "click[features]", "click[< prev]")
    assert shop.options == {"color": "blue"} and "[clicked button] blue" in page.rich
    play(shop, "click[< prev]", "click[l00]")
    assert shop.options == {}


def test_sub_pages(shop):
    play(shop, "search[first]", "click[l00]")
    assert shop.step("click[features]").text.endswith("[SEP] < Prev [SEP]  [SEP] x"), "the blank and line break is gone"
    page = play(shop, "click[< prev]", "click[reviews]")
    assert page.text.endswith("[SEP] Back to Search [SEP] < Prev") and page.click == ("back to search", "< prev")
    page = play(shop, "click[< prev]", "click[description]")
    assert page.text.endswith("< Prev [SEP] A lamp."), "the page, though an option is called so, too"
    page = play(shop, "click[< prev]", "click[attributes]")
    assert page.rich.endswith("[button] < Prev [button_]\n bright\ngarden\ntable lamps\nHome › Lights › Lamps\n")
    assert "style" not in shop.options


def test_marks_in_texts_are_text(shop):
    assert "Lamp & <b>first</b> [SEP] Price: $12.5 [SEP] Rating: N.A." in play(shop, "search[first]", "click[l00]").text


def test_a_purchase_ends_it(shop):
    page = play(shop, "search[first]", "click[l00]", "click[blue]", "click[buy now]")
    assert page.done and page.click == () and not page.search
    # Attribute and price of three; the style was not chosen, blue is not red.
    assert page.reward == pytest.approx(2 / 4) and page.parts["r_option"] == 0
    assert page.text.startswith("Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in")
    assert '[SEP] asin [SEP] L00 [SEP] options [SEP] {"color": "blue"} [SEP] attrs' in page.text
    assert page.text.endswith("Your score (min 0.0, max 1.0) [SEP] 0.5 [SEP] Reward Details [SEP] None")
    assert shop.step("click[buy now]") is page
    assert not shop.step("search[lamp]").done, "the original goes on, too"


def test_a_search_works_anywhere(shop):
    assert "Page 1" in play(shop, "search[first]", "click[l00]", "click[features]", "search[lamp]").text


def test_words_of_the_address_in_a_search_confuse_the_way_back(shop):
    page = play(shop, "search[first item_page]", "click[l00]", "click[features]", "click[< prev]")
    assert "Page 1 (Total results" in page.text, "to the results, not to the product"
    page = play(shop, "search[lamp search_results]", "click[next >]", "click[next >]")
    asin = next(name for name in page.click if name.startswith("l"))
    assert "Page 2 " in play(shop, f"click[{asin}]", "click[< prev]").text, "a page before the one it came from"
    play(shop, "search[first search_results]", "click[l00]")
    page = shop.step("click[< prev]")
    assert "Page 0 (Total results: 1) [SEP] Next >" in page.text and len(page.click) == 2


@pytest.mark.parametrize(
    "action",
    [
        "",
        "search",
        "search[]",
        "click[]",
        "click[no such thing]",
        "click[search]",
        "Search[lamp]",
        " search[lamp]",
        "search[lamp",
        "search lamp",
        "search[a\nb]",
        "search[x [lamp]]",
        "buy now",
        "click[buy now]",
        "search[<a> bright]",
        "search[<c>]",
        "search[<r>]",
        "think[hm]",
        "\ud800",
        "[]" * 1000,
        f"search[{' '.join(map(str, range(1025)))}]",
        f"click[{'x' * 100_000}]",
    ],
)
def test_what_means_nothing_leaves_the_page(shop, action):
    before = shop.page
    assert shop.step(action) is before
    results = shop.step("search[lamp]")
    assert shop.step(action) is results


@pytest.mark.parametrize("query", [" ", "zzz", "the", "x" * 100_000, "lamp " * 20_000, "\ud800", "\x00", "🦊"])
def test_a_search_for_anything_has_a_page(shop, query):
    page = shop.step(f"search[{query}]")
    assert "Page 1 (Total results: " in page.text and page.click[:2] == ("back to search", "next >")


def test_special_searches(shop, catalogue):
    page = shop.step("search[<c> office]")
    assert "(Total results: 1)" in page.text and page.click[-1] == "chair"
    assert "(Total results: 23)" in shop.step("search[<q> table lamps]").text
    assert "(Total results: 0)" in shop.step("search[<q> no such]").text
    large = Shop(catalogue, {}, plain_nouns)
    pages = [play_random(large, shop.goal) for _ in range(2)]
    assert pages[0] == pages[1] and "(Total results: 50)" in pages[0][0] and pages[0][0] != pages[0][1]


def play_random(shop, goal):
    shop.reset(goal)
    return shop.step("search[<r>]").text, shop.step("search[<r>]").text


def test_an_asin_with_small_letters_leads_nowhere(shop):
    results = shop.step("search[low]")
    assert "low" in results.click and shop.step("click[low]") is results


def test_names_lead_to_products(shop):
    assert shop.product is None and shop.linked_product("search") is None
    shop.step("search[first]")
    assert shop.linked_product("l00").title == "Lamp & <b>first</b>" and shop.linked_product("next >") is None
    shop.step("click[l00]")
    assert shop.product.asin == "L00" and shop.linked_product("blue") is None


def test_there_is_nothing_before_reset(lamps):
    for name in ("goal", "page"):
        with pytest.raises(RuntimeError, match="before reset"):
            getattr(Shop(lamps, {}), name)


words = st.sampled_from(
    ["search", "click", "[", "]", "lamp", "L00", "l00", "red", "< prev", "next >", "buy now", "features", "<r>", "<c>"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(words, st.text(max_size=5)).map(str), max_size=8).map("".join), st.integers(0, 4))
def test_no_action_breaks_it_and_only_valid_ones_change_the_page(shop, action, depth):
    shop.reset(shop.goal)
    before = (
        play(shop, *["search[lamp first]", "click[l00]", "click[blue]", "click[features]"][:depth])
        if depth
        else shop.page
    )
    after = shop.step(action)
    verb, _, rest = action.partition("[")
    name = rest.rpartition("]")[0].lower()
    if after is not before:
        assert verb == "search" or (verb == "click" and name in before.click)
    assert after.click or after.done


def random_play(shop, goals, random, steps):
    page = shop.reset(random.choice(goals))
    for _ in range(steps):
        if page.done:
            page = shop.reset(random.choice(goals))
        wish = shop.goal.text.split()
        page = shop.step(
            f"search[{' '.join(random.sample(wish, 3))}]" if page.search else f"click[{random.choice(page.click)}]"
        )


def test_a_shop_is_small(catalogue):
    made, random = make_goals(catalogue), Random(0)
    random_play(Shop(catalogue, made.prices, plain_nouns), made.goals, random, 6000)
    tracemalloc.start()
    try:
        shops = [Shop(catalogue, made.prices, plain_nouns) for _ in range(50)]
        for one in shops:
            random_play(one, made.goals, random, 20)
        assert tracemalloc.get_traced_memory()[0] / len(shops) < 100_000
    finally:
        tracemalloc.stop()
