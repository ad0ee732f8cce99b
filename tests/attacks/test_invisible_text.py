"""Invisible characters and accents in heaps show as escapes; honest sentences and emoji stay as they are."""

import sys
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from d2skill.utils.foreign_text import visible
from d2skill.utils.terminal import Terminal

RANGES = """
00AD 034F 061C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFF8
1BCA0-1BCA3 1D173-1D17A E0000-E0FFF
"""
"""Default_Ignorable_Code_Point of Unicode 15, written down again"""
IGNORABLE = [
    code for one in RANGES.split() for code in range(int(one.split("-")[0], 16), int(one.split("-")[-1], 16) + 1)
]
AROUND = {"in a word": ("pay", "pal"), "at its end": ("paypal", ""), "alone": ("", ""), "after CJK": ("葛城", "市")}


def escape(code):
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


@pytest.mark.parametrize("place", AROUND)
def test_all_that_shows_nothing_is_an_escape(place):
    before, after = AROUND[place]
    for code in IGNORABLE:
        assert visible(before + chr(code) + after) == before + escape(code) + after
    print(f"{len(IGNORABLE)} tried")


HONEST = {
    "German": "Öffne die Schränke, dann nimm den Apfel.",
    "Vietnamese": unicodedata.normalize("NFD", "Tiếng Việt rất đẹp, hãy mở ngăn kéo trước."),
    "Greek": unicodedata.normalize("NFD", "ἐν ἀρχῇ ἦν ὁ λόγος, ᾧ"),
    "Hebrew": "בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים אֵ֥ת הַשָּׁמַ֖יִם וְאֵ֥ת הָאָֽרֶץ׃",
    "Arabic": "بِسْمِ ٱللَّٰهِ ٱلرَّحْمَٰنِ ٱلرَّحِيمِ",
    "Persian": "می\u200cخواهم کتاب\u200cهای خود را ببرم، سال ۱۴۰۳ ه\u200d.ش",
    "Urdu": "الماری کھولو اور سیب اُٹھاؤ۔",
    "Hindi": "पहले अलमारी खोलो, क्\u200dष और क्\u200cष",
    "Nepali": "गर्\u200dयो",
    "Bengali": "র\u200d্যাব আলমারি খোলো",
    "Tamil": "க்ஷ அலமாரியைத் திற",
    "Kannada": "ಬ್ಯಾಂಕ್\u200c ಕನ್ನಡ",
    "Malayalam": "അവന്\u200d വന്നു",
    "Sinhala": "ශ්\u200dරී ලංකාව",
    "Tibetan": "ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ། བསྒྲུབས། ཧྐྵྨླྺྼྻྂ",
    "Burmese": "လျှို့ဝှက် ကျွန်ုပ်တို့",
    "Thai": "ที่นี่มีน้ำผึ้งอยู่ในตู้เย็น กด\u200bปุ่ม",
    "Lao": "ເປີດຕູ້ເຢັນ",
    "Khmer": "ខ្ញុំ\u200bស្រឡាញ់\u200bភាសា\u200bខ្មែរ",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ ᠤᠨ\u180eᠠ ᠪᠠᠶᠢᠭ\u180bᠠ",
    "Japanese": "箱を開けて、か\u3099を取る……",
    "Korean": unicodedata.normalize("NFD", "서랍을 먼저 열어라"),
    "Chinese": "先打开抽屉，再拿苹果。",
    "Russian": unicodedata.normalize("NFD", "Открой ящик, возьми ёлку и йод; за\u0301мок"),
    "phonetics": "ŋ̊ˈd̪ʒə̃̀ː o\u0324\u0303\u0300",
    "families": "👨\u200d👩\u200d👧\u200d👦 👩🏽\u200d🚀 👁\ufe0f\u200d🗨\ufe0f ❤\ufe0f\u200d🔥",
    "couples": "🏳\ufe0f\u200d🌈 🧑🏻\u200d🤝\u200d🧑🏿",
    "flags": "🇩🇪🇫🇷🇯🇵🇧🇷 "
    + "".join("🏴" + "".join(chr(0xE0000 + ord(c)) for c in f"gb{n}\x7f") for n in ("eng", "sct", "wls")),
    "keys and signs": "1\ufe0f\u20e3 #\ufe0f\u20e3 ☎\ufe0e ☎\ufe0f ©\ufe0f ⚠\ufe0f",
    "many": "😀" * 30 + "👍🏽" * 30,
    "lines": "━" * 80 + "▁▂▃▄▅▆▇█" * 4 + "“”…—" * 9 + "《》、。" * 9,
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_text_stays_as_it_is(name):
    assert visible(HONEST[name]) == HONEST[name]


FALSE = {
    "two joiners": "👨\u200d\u200d👩",
    "a joiner at the end of emoji": "👨\u200d",
    "a joiner of letters": "pay\u200dpal",
    "a joiner after emoji": "👨\u200dpal",
    "two selectors": "❤\ufe0f\ufe0f",
    "a selector after a digit": "1\ufe0f2",
    "a selector after a letter": "a\ufe0f",
    "hidden bytes after an emoji": "😀" + "".join(chr(0xE0100 + byte) for byte in b"rm -rf"),
    "another flag of tags": "🏴" + "".join(chr(0xE0000 + ord(c)) for c in "ignore\x7f"),
    "a flag that goes on": "🏴" + "".join(chr(0xE0000 + ord(c)) for c in "gbengx\x7f"),
    "a non-joiner between words": "می\u200c خواهم",
    "two non-joiners": "می\u200c\u200cخواهم",
    "two spaces of nothing": "กด\u200b\u200bปุ่ม",
    "a Mongolian selector after Latin": "a\u180b",
    "half of a syllable": "\u1160\u11a8",
    "an empty name": "\u3164\uffa0\u115f",
}


@pytest.mark.parametrize("name", FALSE)
def test_what_has_a_use_elsewhere_is_an_escape(name):
    text = FALSE[name]
    seen = visible(text)
    assert "\\u" in seen.lower() and visible(seen) == seen
    assert len([c for c in seen if ord(c) in IGNORABLE]) < len([c for c in text if ord(c) in IGNORABLE])


MARKS = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Mn", "Me", "Mc")]


def longest_row(text):
    rows = "".join("m" if unicodedata.category(c)[0] == "M" else " " for c in text).split()
    return max(map(len, rows), default=0)


def test_no_mark_stands_in_heaps():
    for mark in MARKS:
        seen = visible("e" + mark * 11)
        assert longest_row(seen) <= 8, f"{ord(mark):x}"
        if 0x300 <= ord(mark) < 0x370:
            assert longest_row(seen) <= 4
    print(f"{len(MARKS)} tried")


@given(st.text(st.sampled_from(MARKS), min_size=9, max_size=60), st.sampled_from(["", "e", "ก", "😀", "│", "。"]))
def test_no_mixture_of_marks_stands_in_heaps(marks, before):
    seen = visible(before + marks)
    assert longest_row(seen) <= 8 and visible(seen) == seen


@example("م\u200c\u17b4")
@given(st.text(st.sampled_from([*"ae1#葛กम", "😀", "❤", "🏴", "م", "्", *map(chr, IGNORABLE[:60])])))
def test_what_is_visible_is_so_for_good_and_loses_nothing(text):
    seen = visible(text)
    assert visible(seen) == seen
    assert "".join(c for c in text if ord(c) not in IGNORABLE).replace("\r", "") in _without_escapes(seen)


def _without_escapes(text):
    for code in IGNORABLE:
        text = text.replace(escape(code), "").replace(chr(code), "")
    return text


@pytest.mark.parametrize("name", HONEST)
def test_the_terminal_prints_what_is_visible(name, capsys):
    Terminal(width=1000).print(HONEST[name] + "|a\u200bb", soft_wrap=True)
    assert capsys.readouterr().out == HONEST[name] + "|a\\u200bb\n"


@pytest.mark.parametrize("text", ["plain text ", "é", "箱を開けて、", "│ déf ", "👨\u200d👩 ", "a\u0301\u0301"])
def test_long_texts_take_no_time(text):
    long = text * (40_000 // len(text))
    start = time.perf_counter()
    visible(long)
    assert time.perf_counter() - start < 5
