"""The quick ways of `bank.safety` end where the plain ones do: proven for each rule of its table, compared on texts."""

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hostile import HONEST, HOSTILE, KINDS, NOISE

from d2skill.bank import safety
from d2skill.bank.safety import LIMITS, clean, injection_phrases, objection, suspicion, unicode
from d2skill.types import SkillText

PRINTABLE = "".join(map(chr, range(32, 127)))
RULES = injection_phrases._phrases()
ORDINARY = SkillText(
    "Fridge first", "Open the fridge first, then take apple 1 from shelf 2.", "the task needs a cool apple"
)


def plain_clean(text: SkillText) -> SkillText:
    """Returns what `clean` has to return, without its shortcut."""

    def line(said: str, limit: int) -> str:
        said = "\n".join(said[: safety._READ * limit].splitlines())
        while (less := safety._cut(safety._stripped(said), limit)) != said:
            said = less
        return said

    return SkillText(*(line(getattr(text, field), limit) for field, limit in LIMITS.items()))


def plain_suspicion(text: SkillText) -> str:
    """Returns what `suspicion` has to return, by trying every rule on every view."""
    said = ". ".join(getattr(text, field)[:limit] for field, limit in LIMITS.items())
    if re.search(safety._CODED, said):
        return "it holds encoded data"
    sentences = Counter(sentence for sentence in re.split(r"[.!?。]\s*", said) if " " in sentence)
    if max(sentences.values(), default=0) > 3:
        return "it urges by repetition"
    views = injection_phrases._views(said)
    ignoring = [(injection_phrases._IGNORING, pattern) for _, _, pattern in injection_phrases._ignoring()]
    rules = [*ignoring, *((rule.reason, rule.pattern) for rule in RULES)]
    return next((why for why, pattern in rules if any(map(pattern.search, views))), "")


def plain_objection(text: SkillText) -> str:
    """Returns what `objection` has to return."""
    cleaned = plain_clean(text)
    for field in LIMITS:
        if getattr(cleaned, field) != getattr(text, field):
            return f"{field} has invisible characters, markers of a chat or prompt, or is too long"
        if not getattr(text, field):
            return f"{field} is empty"
    return ""


def compare(text: SkillText):
    cleaned = clean(text)
    assert cleaned == plain_clean(text)
    assert suspicion(text) == plain_suspicion(text)
    assert suspicion(cleaned) == plain_suspicion(cleaned)
    assert objection(text) == plain_objection(text)
    assert objection(cleaned) == plain_objection(cleaned)


def matches(pattern: str):
    """Returns strings that a pattern of the package matches, and such strings in the midst of ordinary advice."""
    frames = ["{}", "Open the fridge. {}", "Take it,{}now.", "x{}y"]
    return st.builds(
        str.format,
        st.sampled_from(frames),
        st.from_regex(pattern, fullmatch=True, alphabet="".join({*PRINTABLE, *pattern, *"\né你"})),
    )


@pytest.mark.parametrize("text", HOSTILE, ids=KINDS)
def test_a_hostile_text_is_treated_as_without_shortcuts(text):
    compare(text)
    compare(replace(ORDINARY, principle=f"{ORDINARY.principle} {text.principle}"))


def test_honest_advice_is_treated_as_without_shortcuts():
    for line in HONEST:
        title, *principle, when = line.split("|")
        compare(SkillText(title, "|".join(principle), when))


WORDS_OF_TEXTS = sorted({word for text in (*HOSTILE, ORDINARY) for word in text.principle.split(" ")})
LEADS = sorted({word for rule in RULES for word in rule.words})
SIGNS = [*PRINTABLE, *"\n\t…。’“é ſKİ①٣ёя你", "---", '"""', "'''", "system", "User:", "advice", "10/10", "12, ", "ab "]
SAID = st.one_of(
    st.lists(st.sampled_from(WORDS_OF_TEXTS), max_size=40).map(" ".join),
    st.lists(st.sampled_from(LEADS) | st.sampled_from(WORDS_OF_TEXTS), max_size=20).map(" ".join),
    st.lists(st.sampled_from(SIGNS), max_size=60).map("".join),
    st.lists(
        st.sampled_from(["a", "B", "1", "12", "be", "é", "NOW", "x" * 31, "x" * 80, "%41", "look here"]), max_size=60
    ).flatmap(lambda words: st.sampled_from([" ", ", ", ". ", "-", ""]).map(lambda sign: sign.join(words))),
    NOISE,
)


@settings(max_examples=500, deadline=None)
@given(SAID, SAID, st.integers(0, 2))
def test_any_text_is_treated_as_without_shortcuts(principle, other, number):
    compare(SkillText((ORDINARY.title, other, principle)[number], principle, ORDINARY.when_to_apply))


@settings(max_examples=400, deadline=None)
@given(
    st.one_of([matches(rule.pattern.pattern) for rule in RULES]),
    st.sampled_from([str, str.upper, str.title, lambda text: text.replace("a", "@").replace("e", "3")]),
)
def test_what_a_phrase_rule_matches_is_treated_as_without_shortcuts(said, changed):
    compare(replace(ORDINARY, principle=changed(said)))


@settings(max_examples=200, deadline=None)
@given(st.one_of(map(matches, [safety._MARKERS, safety._ROLES, safety._CODED])))
def test_what_a_marker_or_code_matches_is_treated_as_without_shortcuts(said):
    compare(replace(ORDINARY, principle=said))
    compare(replace(ORDINARY, title=said))


CATEGORIES = {"DIGIT": r"\d", "NOT_DIGIT": r"\D", "SPACE": r"\s", "NOT_SPACE": r"\S", "WORD": r"\w", "NOT_WORD": r"\W"}
ANY_KIND = PRINTABLE + "\n\té…。"  # stands for all characters, where those of other scripts do not matter


class Machine:
    """What a pattern matches, as steps between states; it takes more, as it does not look around or count far."""

    def __init__(self, parsed, ignore_case=False):
        self.ignore_case = ignore_case
        self.steps = [[]]  # by state: which characters lead on, or "" for none, or "edge" of a word, and where to
        self.end = self.add(parsed, 0)

    def step(self, state, what, target=None):
        if target is None:
            target = len(self.steps)
            self.steps.append([])
        self.steps[state].append((what, target))
        return target

    def add(self, parsed, state):
        for operation, what in parsed:
            name = str(operation)
            if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
                accepted = frozenset(c for c in CHARACTERS if self.takes(c, name, what))
                state = self.step(state, accepted)
            elif name == "AT":
                state = self.step(state, "edge" if str(what) == "AT_BOUNDARY" else "")
            elif name == "SUBPATTERN":
                state = self.add(what[-1], state)
            elif name == "BRANCH":
                ends = [self.add(way, self.step(state, "")) for way in what[1]]
                state = self.step(ends[0], "")
                for end in ends[1:]:
                    self.step(end, "", state)
            elif name == "MAX_REPEAT":
                least, most, repeated = what
                for _ in range(least):
                    state = self.add(repeated, state)
                if most > least:  # any number of times, if it may be more than once more
                    start = self.step(state, "")
                    end = self.add(repeated, start)
                    state = self.step(start, "")
                    self.step(end, "", start if most > least + 1 else state)
            else:
                assert name in ("ASSERT", "ASSERT_NOT"), name
        return state

    def takes(self, character, name, what):
        if self.ignore_case and (other := character.swapcase()) != character:
            if name == "NOT_LITERAL" or (name == "IN" and str(what[0][0]) == "NEGATE"):
                return takes(character, name, what) and takes(other, name, what)
            return takes(character, name, what) or takes(other, name, what)
        return takes(character, name, what)

    def unmarked(self, signs, symbols=lambda character: character, characters=None, words=False):
        """Returns a match that holds none of the signs, or None: with `words`, of symbols with one space in a row."""
        signs = tuple(signs)
        starts = {"", *(sign[:size] for sign in signs for size in range(len(sign)))}
        relevant = set("".join(signs))

        @cache
        def follow(tail, said):
            for symbol in said:
                if not (words and symbol == " " and tail.endswith(" ")):
                    tail += symbol if symbol in relevant else "\0"
                if tail.endswith(signs):
                    return None
                while tail not in starts:
                    tail = tail[1:]
            return tail

        @cache
        def kinds(accepted):
            """Returns one character for each effect that one of those accepted may have."""
            kept = accepted if characters is None else accepted & characters
            return {(symbols(c) if relevant & {*symbols(c)} else "\0", is_word(c)): c for c in kept}

        todo, seen = (
            [(0, "", None, None, "")],
            set(),
        )  # state, tail, is the last one of a word, has the next to be, text
        while todo:
            state, tail, last, due, text = todo.pop()
            if (state, tail, last, due) in seen:
                continue
            seen.add((state, tail, last, due))
            if state == self.end:
                return text
            for what, target in self.steps[state]:
                if what == "" or (what == "edge" and (due is not None or not words)):
                    todo.append((target, tail, last, due, text))
                elif what == "edge":
                    for before in (True, False) if last is None else (last,):
                        known = last is not None or not before  # a word that is not known may have ended here
                        if not known or (after := follow(tail, " ")) is not None:
                            todo.append((target, after if known else "", before, not before, text))
                else:
                    for (said, word), character in kinds(what).items():
                        if due in (None, word) and (after := follow(tail, said)) is not None:
                            todo.append((target, after, word, None, text + character))
        return None


def takes(character, name, what):
    if name == "IN":
        negated = str(what[0][0]) == "NEGATE"
        return any(takes(character, str(kind), item) for kind, item in what[negated:]) != negated
    if name == "RANGE":
        return what[0] <= ord(character) <= what[1]
    if name == "CATEGORY":
        return re.match(CATEGORIES[str(what).removeprefix("CATEGORY_")], character) is not None
    return character != "\n" if name == "ANY" else (ord(character) == what) == (name == "LITERAL")


def is_word(character):
    return re.match(r"\w", character) is not None


def symbols_of(character):
    """Returns what a character is in the words that are searched for leads."""
    folded = injection_phrases._folded(character)
    return folded if character == "/" else folded.strip() or " "


def parsed(pattern):
    return re._parser.parse(pattern)


CHARACTERS = {*ANY_KIND, *safety._MARKERS, *safety._ROLES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_a_pattern_matches_has_one_of_its_words(rule, data):
    alphabet = "".join({*PRINTABLE, *rule.pattern.pattern})
    said = data.draw(st.from_regex(rule.pattern, alphabet=alphabet))
    assert any(word in said for word in rule.words)


def test_what_is_bare_has_nothing_to_clean():
    bare = frozenset(c for c in PRINTABLE if safety._BARE.fullmatch(f"a{c}a") or c == " ")
    assert {c for c in bare if not c.isalnum()} == set(safety._SIGNS) and not any(
        map(safety._BARE.match, "<>[]|`~#=_*")
    )
    for character in bare:
        assert unicodedata.normalize("NFKC", character) == character and character not in unicode._BLANK
        assert unicodedata.category(character) not in unicode._INVISIBLE
    assert Machine(parsed(safety._MARKERS), True).unmarked(safety._RUNS, characters=bare) is None
    ((operation, (_, ways)),) = parsed(safety._ROLES)
    assert str(operation) == "BRANCH" and len(ways) == 4
    label, role, *others = (Machine(way, True) for way in ways)
    assert label.unmarked([":"], characters=bare) is None and role.unmarked([":"], characters=bare) is not None
    assert others[0].unmarked((), characters=bare) is None
    (looked, (direction, before)), *_ = ways[3]
    assert str(looked) == "ASSERT" and direction == -1 and Machine(before).unmarked((), characters=bare) is None
    labels = Machine(parsed(f"{safety._LABEL.replace('[^.:;]{0,80}', '')}:"), True)
    assert labels.unmarked([f"{end}:" for end in (*safety._LABEL_ENDS, "advice")], str.lower, bare) is None
    closing = r"[\s*_\])\"'`|-]"
    assert safety._ROLES.count(f"{safety._LABEL}{closing}{{0,4}}:") == 1
    assert {c for c in bare if re.match(closing, c)} < set(safety._SIGNS)
