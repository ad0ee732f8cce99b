"""Products cleaned as the original cleans them, the cache, and what is wrong with files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from webshop_products import options, raw, write_set

from d2skill.envs.webshop import Catalogue, cache_folder
from d2skill.envs.webshop.source_files import SourceFiles, stream_array
from d2skill.errors import ConfigError, DataError


def test_products_and_their_text_are_those_of_the_original(catalogue, small_set):
    documents = [json.loads(line) for line in (small_set / "documents.jsonl").open()]
    assert len(catalogue) == len(documents) == 1000
    for product, document in zip(catalogue, documents, strict=True):
        then = document["product"]
        assert product.text == document["contents"]
        assert (product.asin, product.title, product.description) == (then["asin"], then["Title"], then["Description"])
        assert (list(product.bullets), list(product.attributes)) == (then["BulletPoints"], then["Attributes"])
        assert (product.price, list(product.pricing)) == (then["Price"], then["pricing"])
        assert [(k, list(v)) for k, v in product.options.items()] == list(then["options"].items())
        kinds = ("category", "query", "product_category")
        assert [getattr(product, kind) for kind in kinds] == [then[kind] for kind in kinds]
        assert product.image == then["MainImage"]
        assert catalogue.find(product.asin).title == product.title


def test_a_product_is_cleaned(stocked):
    given = {"Color": ["Red/Blue ", "TEAL"], "Size": None, "color": [" Black"]}
    shop = stocked([raw("A1", pricing="$1,012.50 - $20", customization_options=options(**given))])
    product = shop.find("A1")
    assert product.options == {"color": ("black",)}, "of names that differ in case the later one stays"
    assert (product.price, product.pricing) == ("$1012.5 to $20.0", (1012.5, 20.0))
    assert product.query == "table lamps"
    assert product.attributes == ("DUMMY_ATTR",)
    assert product.text == "lamp a1 a lamp. bright  color: black"


def test_a_slash_in_an_option_gets_room(stocked):
    assert stocked([raw("A", customization_options=options(Size=["38/40/41 mm"]))]).find("A").options == {
        "size": ("38 | 40 | 41 mm",)
    }


@pytest.mark.parametrize(
    ("fields", "price", "pricing"),
    [
        ({"pricing": None}, "$100.0", (100.0,)),
        ({"pricing": ""}, "$100.0", (100.0,)),
        ({"pricing": "free"}, "$100.0", (100.0,)),
        ({"pricing": "$."}, "$100.0", (100.0,)),
        ({"pricing": "$3"}, "$3.0", (3.0,)),
        ({"pricing": "$3$4$5"}, "$3.0 to $4.0", (3.0, 4.0)),
    ],
)
def test_prices_are_read(stocked, fields, price, pricing):
    product = stocked([raw("A", **fields)]).find("A")
    assert (product.price, product.pricing) == (price, pricing)


def test_odd_records_are_left_out_and_odd_fields_are_empty(stocked):
    odd = raw("B", full_description=None, small_description=None, images=[], customization_options=None, name=None)
    products = [raw("A"), raw("nan"), raw("A", name="again"), raw("TOOLONGASIN"), {"name": "no asin"}, 7, odd]
    shop = stocked([*products, raw("C", small_description=[])])
    assert [product.asin for product in shop] == ["A", "B", "C"]
    assert shop.find("A").title == "Lamp A"
    assert (shop.find("B").title, shop.find("B").bullets, shop.find("B").image) == ("", ("",), "")
    assert shop.find("C").text == "lamp c a lamp.  "
    assert shop.find("D") is None and shop.find("\ud800") is None and shop.find("") is None


def test_a_search_is_over_all_of_it(stocked):
    shop = stocked([raw("A", name="Green chair"), raw("B"), raw("C", small_description=["green"])])
    assert [asin for asin, _ in shop.search("green")] == ["A", "C"] or shop.search("green")[0][0] in {"A", "C"}
    assert len(shop.search("lamp", k=1)) == 1
    assert shop.search("") == []


def test_missing_files_are_named_with_where_they_are_from(tmp_path):
    with pytest.raises(ConfigError, match=r"lacks items_shuffle_1000.json and items_ins_v2_1000.json and .*-d small"):
        Catalogue.load(tmp_path)
    write_set(tmp_path, [raw("A")], {}, {})
    (tmp_path / "items_human_ins.json").unlink()
    with pytest.raises(ConfigError, match=r"lacks items_human_ins.json of WebShop.*princeton-nlp/WebShop"):
        Catalogue.load(tmp_path)
    with pytest.raises(ConfigError, match=r"items_shuffle.json .*-d all"):
        Catalogue.load(tmp_path, size="full")


def test_the_full_set_has_other_names(tmp_path):
    write_set(tmp_path, [raw("A")], {}, {})
    for name in ("items_shuffle", "items_ins_v2"):
        (tmp_path / f"{name}_1000.json").rename(tmp_path / f"{name}.json")
    assert SourceFiles.find(tmp_path).products.name == "items_shuffle.json"
    assert len(Catalogue.load(tmp_path, tmp_path / "cache")) == 1


@pytest.mark.parametrize("text", ["", "{}", '[{"asin": "A"}', "[1, 2", "nonsense", '[{"asin": "A"} x]'])
def test_a_broken_file_of_products_is_named(tmp_path, text):
    write_set(tmp_path, [], {}, {})
    (tmp_path / "items_shuffle_1000.json").write_text(text)
    with pytest.raises(DataError, match=r"items_shuffle_1000.json .*"):
        Catalogue.load(tmp_path, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()], "nothing half made is left"


def test_a_set_without_products_is_none(tmp_path):
    with pytest.raises(DataError, match="holds no product"):
        Catalogue.load(write_set(tmp_path, [], {}, {}), tmp_path / "cache")


def test_a_broken_file_of_attributes_is_named(tmp_path):
    write_set(tmp_path, [raw("A")], {}, {})
    (tmp_path / "items_ins_v2_1000.json").write_text("[]")
    with pytest.raises(DataError, match=r"items_ins_v2_1000.json is no JSON object"):
        Catalogue.load(tmp_path, tmp_path / "cache")


def test_a_list_is_read_in_pieces(tmp_path, monkeypatch):
    values = [{"a": "é" * n, "b": [1, {"c": "]}"}]} for n in range(50)]
    (tmp_path / "list.json").write_text("\n [ " + " ,\n".join(map(json.dumps, values)) + "\n]\n")
    for size in (1, 7, 64, 1 << 20):
        monkeypatch.setattr("d2skill.envs.webshop.source_files._CHUNK", max(size, 8))
        assert list(stream_array(tmp_path / "list.json")) == values


# the cache


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_the_cache_goes_by_content(tmp_path):
    cache = tmp_path / "cache"
    one = write_set(tmp_path / "one", [raw("A")], {}, {})
    Catalogue.load(one, cache)
    (kept,) = folders(cache)
    made = (cache / kept / "products.jsonl").stat().st_mtime_ns
    Catalogue.load(shutil.copytree(one, tmp_path / "copy"), cache)
    assert folders(cache) == [kept] and (cache / kept / "products.jsonl").stat().st_mtime_ns == made
    write_set(one, [raw("A", name="other")], {}, {})
    assert Catalogue.load(one, cache).find("A").title == "other"
    assert len(folders(cache)) == 2


@pytest.mark.parametrize("file", ["products.jsonl", "tables", "meta.json", "synthetic.jsonl", "index"])
def test_a_damaged_cache_is_made_again(tmp_path, file):
    folder, cache = write_set(tmp_path / "set", [raw("A")], {}, {}), tmp_path / "cache"
    Catalogue.load(folder, cache)
    (kept,) = folders(cache)
    damaged = cache / kept / file
    if damaged.is_dir():
        shutil.rmtree(damaged)
    elif file == "synthetic.jsonl":
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:-9])
    again = Catalogue.load(folder, cache)
    assert (
        again.find("A").title == "Lamp A" and again.search("lamp") and again.store.instructions["synthetic"].goals == 0
    )
    assert folders(cache) == [kept]


def test_without_a_place_for_a_cache_it_works_all_the_same(tmp_path, caplog):
    folder = write_set(
        tmp_path / "set", [raw("A")], {"A": {"instruction": "Find me", "instruction_attributes": ["x"]}}, {}
    )
    (tmp_path / "file").write_text("")
    shop = Catalogue.load(folder, tmp_path / "file" / "cache")
    assert shop.find("A").title == "Lamp A" and shop.search("lamp")
    assert shop.store.instructions["synthetic"].lines[0] == ["Find me", ["x"]]
    assert "cannot be written" in caplog.text


def test_large_files_are_digested_once(tmp_path, monkeypatch):
    monkeypatch.setattr("d2skill.utils.shared_cache._LARGE", 0)
    folder, cache = write_set(tmp_path / "set", [raw("A")], {}, {}), tmp_path / "cache"
    cache.mkdir()
    first = SourceFiles.find(folder).digest(cache / "digests.json")
    assert len(json.loads((cache / "digests.json").read_text())) == 3
    monkeypatch.setattr("hashlib.file_digest", None)
    assert SourceFiles.find(folder).digest(cache / "digests.json") == first
    (cache / "digests.json").write_text("{broken")
    monkeypatch.undo()
    assert SourceFiles.find(folder).digest(cache / "digests.json") == first


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("D2SKILL_CACHE", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "webshop"
    monkeypatch.delenv("D2SKILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "d2skill" / "webshop"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("~/.cache/d2skill/webshop").expanduser()


def test_what_is_in_the_cache_is_not_made_again(small_set, tmp_path, monkeypatch):
    first = Catalogue.load(small_set, tmp_path)
    monkeypatch.setattr("d2skill.envs.webshop.catalogue.write_store", lambda *_: pytest.fail("it was made again"))
    assert Catalogue.load(small_set, tmp_path).search("lamp") == first.search("lamp")


def test_processes_that_make_the_same_cache_at_once_all_get_it(tmp_path):
    folder = write_set(tmp_path / "set", [raw(f"A{n}") for n in range(300)], {}, {})
    code = (
        "import sys; from d2skill.envs.webshop import Catalogue; "
        "print(len(Catalogue.load(sys.argv[1], __import__('pathlib').Path(sys.argv[2])).search('lamp')))"
    )
    run = [sys.executable, "-c", code, str(folder), str(tmp_path / "cache")]
    started = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(3)]
    assert [re.sub(r"\s", "", process.communicate()[0]) for process in started] == ["50"] * 3
    assert len(folders(tmp_path / "cache")) == 1
