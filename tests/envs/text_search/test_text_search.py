"""Full-text search against Lucene: its rankings, its words and terms, and numbers worked by hand.

`data/lucene_words.json.xz` has texts, most of them random mixtures of all kinds of characters, with what the
StandardTokenizer and the DefaultEnglishAnalyzer of Anserini 0.14 (the jar in pyserini 0.17.0) make of them.
"""

import json
import lzma
import math
import multiprocessing
import tarfile
import tempfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2skill.envs.text_search import BM25Index, analyze, bm25, index_files, postings
from d2skill.envs.text_search import index as index_module
from d2skill.envs.text_search.analyzer import STOP_WORDS
from d2skill.envs.text_search.porter_stemmer import stem
from d2skill.envs.text_search.tokenizer import MAX_TOKEN_LENGTH, tokenize
from d2skill.errors import DataError

ARCHIVES = Path(__file__).parents[4] / "shared" / "data"
RECORDED = Path(__file__).parent / "data" / "lucene_words.json.xz"
THREE = {"a": "red shoe", "b": "red red sock", "c": "blue shoe shoe shoe"}


def built(documents: dict[str, str]) -> BM25Index:
    return BM25Index.build(list(documents), iter(documents.values()))


# --- against the original ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def products() -> BM25Index:
    archive = ARCHIVES / "webshop_1k.tar.xz"
    if not archive.is_file():
        pytest.skip(f"the archive {archive.name} of real products is not there")
    with tarfile.open(archive) as tar:
        name = next(name for name in tar.getnames() if name.endswith("documents.jsonl"))
        documents = [json.loads(line) for line in tar.extractfile(name)]
    return BM25Index.build([document["id"] for document in documents], (document["contents"] for document in documents))


@pytest.fixture(scope="module")
def rankings() -> list[dict]:
    archive = ARCHIVES / "webshop_1k_lucene_rankings.json.xz"
    if not archive.is_file():
        pytest.skip(f"the archive {archive.name} of Lucene's answers is not there")
    return json.loads(lzma.decompress(archive.read_bytes()))


@pytest.mark.parametrize(
    ("exhaustive", "binary_search", "seeding"),
    [(index_module._EXHAUSTIVE, 0, 128), (-1, 0, 128), (-1, 16, 128), (-1, 16, 1)],
)
def test_the_rankings_are_lucenes(products, rankings, exhaustive, binary_search, seeding, monkeypatch):
    monkeypatch.setattr(index_module, "_SEEDING", seeding)
    monkeypatch.setattr(index_module, "_EXHAUSTIVE", exhaustive)
    monkeypatch.setattr(index_module, "_BINARY_SEARCH", binary_search)
    assert len(rankings) == 129
    for ranking in rankings:
        hits = products.search(ranking["query"])
        assert [name for name, _ in hits] == [name for name, _ in ranking["hits"]], ranking["query"]
        assert [score for _, score in hits] == pytest.approx([score for _, score in ranking["hits"]], abs=1e-5)


def test_words_and_terms_are_lucenes():
    recorded = json.loads(lzma.decompress(RECORDED.read_bytes()))
    assert len(recorded) > 2000
    for sample in recorded:
        assert tokenize(sample["text"]) == sample["words"], ascii(sample["text"])
        assert analyze(sample["text"]) == sample["terms"], ascii(sample["text"])


# --- words ------------------------------------------------------------------------------------------------------------

WORDS = {
    "letters and digits stay together": ("abc 123 abc123 4gb", "abc 123 abc123 4gb"),
    "a point or apostrophe joins letters": ("U.S.A. can't a:b .a a. a..b", "U.S.A can't a:b a a a b"),
    "a comma parts letters and joins digits": ("a,b 1,000.50 1,a 1'2 1:2", "a b 1,000.50 1 a 1'2 1 2"),
    "sizes": ("5'10\" x-large 3.5mm 12v/24v 8.5x11", "5'10 x large 3.5mm 12v 24v 8.5x11"),
    "underscores join, but are no word": ("_a_1_ __ a__b _", "_a_1_ a__b"),
    "other signs part": ("a@b.com $19.99 c++ #1 50%", "a b.com 19.99 c 1 50"),
    "apostrophes of several kinds": ("women’s women's women＇s ‘a’ a´b", "women’s women's women＇s a a b"),
    "accents belong to their letters": ("café cafe\u0301 \u0301x", "café cafe\u0301 x"),
    "a joiner or a soft hyphen extends": ("a\u00adb a\u200db 1\u200d2", "a\u00adb a\u200db 1\u200d2"),
    "what joins may be extended": ("a.\u0301b 1,\u03012", "a.\u0301b 1,\u03012"),
    "Han and Hiragana, one by one": ("日本 ひら 日a々", "日 本 ひ ら 日 a々"),
    "Katakana together": ("バッグ ﾊﾞｯｸﾞ ア_1 アa", "バッグ ﾊﾞｯｸﾞ ア_1 ア a"),
    "Hangul together": ("한국어 한1", "한국어 한1"),
    "South-East Asian together": ("กขค ກຂ", "กขค ກຂ"),
    "Hebrew marks": ('א\' צה"ל א"1 א"ב"ג א.ב\'', 'א\' צה"ל א 1 א"ב ג א.ב'),
    "full width": ("ＵＳＢ４ １，２", "ＵＳＢ４ １，２"),
    "emoji": ("a😀b 😀😀 ❤️ ★ ✔", "a 😀 b 😀 😀 ❤️ ★ ✔"),
    "emoji sequences": ("👨‍👩‍👧 👍🏽 🇺🇸🇩🇪 1️⃣ #️⃣ # 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👨‍👩‍👧 👍🏽 🇺🇸 🇩🇪 1️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    "signs of other planes": ("𝒶𝒷.𝒸 𐍈", "𝒶𝒷.𝒸 𐍈"),
    "spaces of other kinds": ("a\u00a0b\u3000c\u200bd", "a b c d"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("name", WORDS)
def test_words(name):
    text, words = WORDS[name]
    assert tokenize(text) == words.split(" " if words else None)


@pytest.mark.parametrize("char", ["a", "1", "é", "𝒶", "ก", "_"])
def test_no_word_is_longer_than_255_units(char):
    units = 2 if char > "\uffff" else 1
    word = "x" + char * 600
    cut = tokenize(word)
    assert "".join(cut) in (word, word[: len("".join(cut))])
    assert max(map(len, cut)) == 1 + (MAX_TOKEN_LENGTH - 1) // units
    assert tokenize(f"{char * MAX_TOKEN_LENGTH} b")[-1] == "b"


@given(st.text(max_size=60))
def test_words_come_from_the_text_in_their_order(text):
    place = 0
    for token in tokenize(text):
        place = text.index(token, place) + len(token)


@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=20)))
def test_plain_text_is_cut_alike_beside_other_characters(parts):
    text = " ".join(parts)
    assert tokenize(text + " é") == [*tokenize(text), "é"]
    assert tokenize(text + "\u00a0") == tokenize(text)


@pytest.mark.parametrize("text", ["_", "\u200d", "日", "a.", "é.", "_\u0301", "#\u0301", 'א"', "☝\u200d", "1,", "'"])
def test_long_texts_of_one_kind_take_no_longer(text):
    analyze(text * (100_000 // len(text)))


# --- terms ------------------------------------------------------------------------------------------------------------


def test_stop_words_leave_no_term():
    assert len(STOP_WORDS) == 33
    assert analyze(" ".join(sorted(STOP_WORDS))) == []
    assert analyze("The THE shoes OF of") == ["shoe"]


def test_possessives_lose_their_ending():
    assert analyze("women's WOMEN'S women’s women＇S women womens'") == ["women"] * 5 + ["women"]
    assert analyze("it's boss's 's s's") == ["boss", "s", "s"]


def test_letters_become_small_one_by_one():
    assert analyze("ÉTÉ İSTANBUL ΣΑΣ ＵＳＢ") == ["été", "istanbul", "σασ", "ｕｓｂ"]


STEMS = """
caresses caress, ponies poni, ties ti, caress caress, cats cat, feed feed, agreed agre, plastered plaster, bled bled,
motoring motor, sing sing, conflated conflat, troubled troubl, sized size, hopping hop, tanned tan, falling fall,
hissing hiss, fizzed fizz, failing fail, filing file, happy happi, sky sky, relational relat, conditional condit,
rational ration, valenci valenc, digitizer digit, conformabli conform, radically radic, differently differ,
vileli vile, analogousli analog, vietnamization vietnam, predication predic, operator oper, feudalism feudal,
decisiveness decis, hopefulness hope, callousness callous, formaliti formal, sensitiviti sensit, sensibiliti sensibl,
apologi apolog, triplicate triplic, formative form, formalize formal, electriciti electr, electrical electr,
hopeful hope, goodness good, revival reviv, allowance allow, inference infer, airliner airlin, gyroscopic gyroscop,
adjustable adjust, defensible defens, irritant irrit, replacement replac, adjustment adjust, dependent depend,
adoption adopt, homologou homolog, communism commun, activate activ, angulariti angular, homologous homolog,
effective effect, bowdlerize bowdler, probate probat, rate rate, cease ceas, controll control, roll roll, is is,
as as, ies i, aed a, ion ion, generalizations gener, oscillators oscil, cement cement, mm mm, yyy yyi, 3x 3x,
100s 100, café café
"""
EXAMPLES = [tuple(pair.split()) for pair in STEMS.split(",")]


@pytest.mark.parametrize(("word", "stemmed"), EXAMPLES)
def test_stems(word, stemmed):
    assert stem(word) == stemmed


def test_the_length_of_a_word_is_in_utf_16():
    assert stem("𝒶s") == "𝒶"
    assert stem("és") == "és"


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_scores_worked_by_hand():
    index = built(THREE)
    # 2 of 3 have "red": ln(1 + 1.5 / 2.5) = 0.470004. Norms: 0.9 (0.6 + 0.4 · 2/3) = 0.78; 0.9 for the mean length 3.
    assert index.search("red") == [("b", pytest.approx(0.470004 * 2 / 2.9, abs=1e-4)), ("a", pytest.approx(0.2640))]
    # 1 of 3 has "blue": ln(1 + 2.5 / 1.5) = 0.980829; the norm of 4 terms is 0.9 (0.6 + 0.4 · 4/3) = 1.02.
    blue, shoes = 0.980829 / 2.02, 0.470004 * 3 / 4.02
    assert index.search("blue shoes") == [("c", pytest.approx(blue + shoes, abs=1e-4)), ("a", pytest.approx(0.2640))]
    # What is asked for twice counts twice.
    assert index.search("red RED Red's") == [("b", pytest.approx(0.9724, abs=1e-4)), ("a", pytest.approx(0.7921))]


def test_what_a_byte_keeps_of_lengths():
    lengths = [0, 1, 23, 24, 39, 40, 41, 42, 55, 56, 59, 60, 100, 1000, 123_456, 2**31 - 1]
    assert bm25.encoded_lengths(np.array(lengths)).tolist() == [
        *[0, 1, 23, 24, 39, 40, 40, 42, 54, 56, 56, 60, 96, 984, 122_904, 2_013_265_944],
    ]


def test_long_documents_have_the_length_that_a_byte_keeps():
    index = built({"a": "x" + " y" * 99, "b": "z"})
    norm = 0.9 * (0.6 + 0.4 * 96 / 50.5)
    assert index.search("x") == [("a", pytest.approx(math.log(2) / (1 + norm), abs=1e-4))]


@pytest.mark.parametrize("times", [255, 256, 65_535, 65_536])
def test_terms_that_a_document_repeats_often(times, monkeypatch):
    monkeypatch.setattr(postings, "_BATCH", 0)
    documents = {"a": "x y", "b": "x " * times + "y", "c": "y z"}
    assert [name for name, _ in built(documents).search("x")] == ["b", "a"]
    assert built(documents).search("x y") == brute_rounded(documents, "x y")


def test_documents_without_terms_do_not_count():
    index = built({**THREE, "d": "", "e": "the of", "f": "!"})
    assert len(index) == 6
    for query in ("red", "blue shoes"):
        assert index.search(query) == built(THREE).search(query)


def test_equal_scores_are_in_the_order_of_ids_and_spread():
    ids = ["b", "a", "é", "C", "😀", "\uffff"]
    hits = BM25Index.build(ids, ["red shoe"] * len(ids)).search("red")
    assert [name for name, _ in hits] == ["C", "a", "b", "é", "\uffff", "😀"]
    assert [round((hits[0][1] - score) * 1e6) for _, score in hits] == [0, 1, 2, 3, 4, 5]
    assert BM25Index.build(ids, ["red shoe"] * len(ids)).search("red", 2) == hits[:2]


def test_rounded_scores():
    # 12.420249938964844 · 10⁴ is 124202.4999 and would be 124202.5 in single precision.
    scores = np.array([12.420249938964844, 3.00004, 3.00001, 3.0, 2.9999, 2.5], np.float32)
    expected = [12.4202, 3.0, 2.999999, 2.999998, 2.999897, 2.5]
    assert bm25.rounded_scores(scores) == pytest.approx(expected, abs=4e-7)


@pytest.mark.parametrize("query", ["", "  ", "the of and", "unknown", "!?", "\u200d", "\ud800"])
def test_queries_without_a_known_term_have_no_hits(query):
    assert built(THREE).search(query) == []


def test_odd_sizes():
    assert built({}).search("red") == []
    assert built({"a": ""}).search("red") == []
    assert built(THREE).search("red", 0) == []
    assert len(built(THREE).search("red", 1000)) == 2
    with pytest.raises(ValueError, match="shorter than argument 1"):
        BM25Index.build(["a", "b"], ["red"])


def test_a_very_long_query_is_answered():
    index = built(THREE | {f"d{number}": f"word{number} red" for number in range(2000)})
    query = " ".join(f"word{number}" for number in range(9000)) + " red" * 9000
    assert len(query) > 100_000
    assert len(index.search(query)) == 50


# --- any corpus -------------------------------------------------------------------------------------------------------

VOCABULARY = "red Red shoes shoe's the of blue 3.5mm x-large 日本 ❤️ café a_b running runs".split()
TEXTS = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=40).map(" ".join), min_size=1, max_size=12)
QUERIES = st.lists(st.sampled_from([*VOCABULARY, "unknown"]), max_size=8).map(" ".join)


def brute_force(documents: dict[str, str], query: str) -> list[tuple[str, np.float32]]:
    """All hits, by the formula, one document and term after the other."""
    counts = {name: Counter(analyze(text)) for name, text in documents.items()}
    lengths = {name: count.total() for name, count in counts.items() if count}
    average = np.float32(sum(lengths.values()) / max(1, len(lengths)))
    found = []
    for name, length in lengths.items():
        parts = []
        for term, times in Counter(analyze(query)).items():
            if number := counts[name][term]:
                having = sum(term in count for count in counts.values())
                idf = np.float32(math.log(1 + (len(lengths) - having + 0.5) / (having + 0.5)))
                encoded = np.float32(bm25.encoded_lengths(np.array([length]))[0])
                inverse = 1 / (bm25.K1 * ((1 - bm25.B) + bm25.B * encoded / average))
                weight = np.float32(times) * idf
                parts.append(weight - weight / (1 + np.float32(number) * inverse))
        if parts:
            found.append((name, np.float32(math.fsum(parts))))
    return sorted(found, key=lambda hit: (-hit[1], hit[0]))


def brute_rounded(documents: dict[str, str], query: str) -> list[tuple[str, float]]:
    """All hits, with scores as they are reported."""
    hits = brute_force(documents, query)
    scores = bm25.rounded_scores(np.array([score for _, score in hits], np.float32))
    return list(zip([name for name, _ in hits], scores, strict=True))


@given(
    TEXTS,
    QUERIES,
    st.integers(1, 6),
    st.sampled_from([-1, 1 << 15]),
    st.sampled_from([0, 1, 16]),
    st.sampled_from([1, 128]),
    st.integers(0, 40),
)
@settings(deadline=None)
def test_any_corpus_is_ranked_as_the_formula_says(texts, query, k, exhaustive, binary_search, seeding, batch):
    documents = {f"d{len(texts) - number:02}": text for number, text in enumerate(texts)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "_EXHAUSTIVE", exhaustive)
        patch.setattr(index_module, "_BINARY_SEARCH", binary_search)
        patch.setattr(index_module, "_SEEDING", seeding)
        patch.setattr(postings, "_BATCH", batch)
        hits = built(documents).search(query, k)
    assert hits == brute_rounded(documents, query)[:k]


@given(TEXTS, QUERIES, st.sampled_from(sorted(STOP_WORDS)))
@settings(deadline=None)
def test_stop_words_change_nothing(texts, query, word):
    ids = [f"d{number}" for number in range(len(texts))]
    stuffed = [f"{word} {text.replace(' ', f' {word} ')}" for text in texts]
    assert BM25Index.build(ids, stuffed).search(f"{query} {word}") == BM25Index.build(ids, texts).search(query)


@given(TEXTS, QUERIES)
@settings(deadline=None)
def test_the_order_of_documents_and_of_the_query_changes_nothing(texts, query):
    documents = {f"d{number}": text for number, text in enumerate(texts)}
    turned = dict(reversed(documents.items()))
    assert built(turned).search(" ".join(reversed(query.split()))) == built(documents).search(query)


@given(TEXTS, QUERIES)
@settings(deadline=None, max_examples=25)
def test_a_saved_index_answers_as_before(texts, query):
    index = built({f"d{number}": text for number, text in enumerate(texts)})
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        assert BM25Index.open(Path(folder) / "index").search(query) == index.search(query)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    built(THREE).save(tmp_path / "index")
    return tmp_path / "index"


def test_an_index_without_documents_is_kept_too(tmp_path):
    built({}).save(tmp_path / "index")
    assert BM25Index.open(tmp_path / "index").search("red") == []


def test_an_index_is_mapped_and_cannot_be_changed(saved):
    index = BM25Index.open(saved)
    assert len(index) == 3
    with pytest.raises(ValueError, match="read-only"):
        index._tf_factors[0] = 1


def test_saving_replaces_an_index_and_leaves_nothing_beside_it(saved):
    opened = BM25Index.open(saved)
    built({"x": "red"}).save(saved)
    assert [name for name, _ in BM25Index.open(saved).search("red")] == ["x"]
    assert [name for name, _ in opened.search("red")] == ["b", "a"], "the files that it maps are still there"
    assert list(saved.parent.iterdir()) == [saved]
    BM25Index.open(saved).save(saved)
    assert [name for name, _ in BM25Index.open(saved).search("red")] == ["x"]


def test_the_files_are_the_same_each_time(saved, tmp_path):
    built(THREE).save(tmp_path / "again")
    for file in saved.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_the_names_of_the_files_belong_to_the_format(saved):
    names = "ids id_ends order counted terms term_ends ends rows growth peaks".split()
    assert {file.name for file in saved.iterdir()} == {"search_index.json", *(f"{name}.npy" for name in names)}
    assert json.loads((saved / "search_index.json").read_text())["format"] == index_files.FORMAT == 1


def test_a_missing_index_is_refused(tmp_path):
    with pytest.raises(DataError, match="no search index"):
        BM25Index.open(tmp_path / "nowhere")


def test_another_format_is_refused(saved, monkeypatch):
    monkeypatch.setattr(index_files, "FORMAT", index_files.FORMAT + 1)
    with pytest.raises(DataError, match="format 1, not 2"):
        BM25Index.open(saved)


CONTENTS = [
    "",
    "{",
    "[]",
    "3",
    "{}",
    '{"format": 1}',
    '{"format": 1, "arrays": {}}',
    '{"format": 1, "arrays": {"rows": 3}}',
]


@pytest.mark.parametrize("text", CONTENTS)
def test_a_damaged_table_of_contents_is_refused(saved, text):
    (saved / "search_index.json").write_text(text)
    with pytest.raises(DataError, match="build the search index again"):
        BM25Index.open(saved)


def test_damaged_arrays_are_refused(saved):
    arrays = sorted(saved.glob("*.npy"))
    assert len(arrays) > 5
    for file in arrays:
        whole = file.read_bytes()
        for damaged in (whole[:-1], whole + b"\0", b"", whole[:-1] + bytes([whole[-1] ^ 1]), b"X" + whole[1:]):
            file.write_bytes(damaged)
            with pytest.raises(DataError, match=f"{file.name} is damaged .*: build the search index again"):
                BM25Index.open(saved)
        file.unlink()
        with pytest.raises(DataError, match=f"{file.name} is damaged"):
            BM25Index.open(saved)
        file.write_bytes(whole)
    BM25Index.open(saved)


def test_threads_share_an_index(saved):
    index, expected, wrong = BM25Index.open(saved), built(THREE).search("red blue shoes"), []

    def search():
        for _ in range(200):
            if index.search("red blue shoes") != expected:
                wrong.append(1)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def search_in_another_process(folder: Path) -> list[tuple[str, float]]:
    return BM25Index.open(folder).search("red blue shoes")


def test_processes_share_an_index(saved):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(search_in_another_process, [saved, saved]) == [built(THREE).search("red blue shoes")] * 2
