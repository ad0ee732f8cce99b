"""Makes skill text safe to show: cleans it, and suspects what is no advice.

Skill text is a model's text made from an environment's text, or it came with somebody else's bank. Three things stand
between it and a policy, the last of which is the real defence:

1. `clean` makes each field one short line of visible characters, without the markers by which chat templates and our
   own prompts tell who speaks. Encoded markers (&lt;, %3C, base64) stay: no tokenizer decodes them.
2. `suspicion` names what looks like an instruction to whoever runs the policy. It knows phrases of some languages, and
   cannot be complete.
3. `prompts.render` shows a skill as one quoted line under a heading that calls it advice.

What is stored is NFKC, so that what was checked is what is shown: full-width letters, ligatures and the like come out
plain. Invisible joiners are lost, so some emoji fall into their parts.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

from d2skill.bank.safety.injection_phrases import reason
from d2skill.bank.safety.unicode import latin, visible
from d2skill.types import SkillText

LIMITS = {"title": 120, "principle": 600, "when_to_apply": 300}
"""Longest text of each field, in characters."""

_READ = 4  # of a field, this many times its limit is looked at
_TAGS = (
    r"think(?:ing)?|thought|reasoning|analysis|scratchpad|answer|actions?|observation|search|information|result"
    r"|tools?|tool_\w+|function(?:s|_calls?)?|invoke|parameter|system|user|assistant|human|developer|model"
    r"|prompt|instructions?|advice|skills?|notes|context|documents?|task|history"
    r"|s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eoh|eoa|eot|(?:start|end)_of_\w+|image|audio|video|fim[_-]\w+"
    r"|unused\d+|extra_id_\d+|special_\d+|reserved_\w+|tokens_unused_\d+|seed:\w+|0x[0-9a-f]{2}"
)
_MARKERS = (
    r"(?i)"
    # <|im_start|>, <｜User｜>, <|channel|>final<|message|>, and what is left of nested ones
    r"(<\|[^<>|]{0,40}\|>(?:\s?(?:system|user|assistant|developer|tool|analysis|commentary|final)\s?(?=<\|))?|<\|+|\|+>"
    rf"|<\s?/?\s?(?:{_TAGS})(?:[\s=:/][^<>]{{0,80}})?>|<<\s?/?\s?SYS\s?>>"
    r"|\[\s?/?\s?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+|ARGS|CALL_ID|THINK|IMG\w*|CONTROL_\d+|[gs]?MASK"
    r"|CLS|SEP|PAD|UNK|BOS|EOS)\s?\]|\[\|[^\[\]|]{0,40}\|\]|\]~[!b]\w*[\[\]]?|\[e~\["
    r"|`{3,}\w*|~{3,}|<!--|-->|<!\[CDATA\[|\]\]>|[-=_*]{3,}|#{2,}|\"{3,}|'{3,})"
)
_TURN = r"system|user|assistant|human|developer"
_LABEL = (
    rf"(?:(?:gpt4 correct )?(?:{_TURN})|tool|function|model|bot|ai|chatgpt|claude|instructions?|response|input|output"
    r"|system (?:prompt|message|instructions?|notes?|notice|override|alert|update)"
    r"|(?:admissible|available) actions?|now|task|so far|history|observation|action|thought|(?:final )?answer"
    r"|advice[^.:;]{0,80}|apply when)"
)
_ROLES = (
    r"(?im)"
    # after the start of a line or sentence, a bracket, a heading, or as SYSTEM: in the middle of a sentence
    r"(?:^|[.!?:;…。]\W{0,3}\s|\\[nr]|[>\])]\s?|(?<=\s)[\"'(\[]|(?=#{2}|\*\*|={3}|-{3})"
    r"|(?-i:(?<![A-Z] )\b(?=(?:SYSTEM|USER|ASSISTANT|HUMAN)\b)))"
    rf"([\s#*_>=\[(|~`\"'-]{{0,12}}(?:\b|(?<=\\[nr])){_LABEL}[\s*_\])\"'`|-]{{0,4}}:[*_]{{0,3}})"
    rf"|\A(\W*(?:{_TURN})\W*)\Z"  # a title is followed by a colon in a prompt
    r"|^(\s*>[\s>]*)"  # a past action in a prompt
    rf"|(?<=[>\]])\s?((?:{_TURN}|model|tool)[ ]?)$"  # <|im_start|>system, and a line's end
)
_CODED = (
    r"(?=[A-Za-z0-9+/]*[a-z])(?=[A-Za-z0-9+/]*[A-Z])(?=[A-Za-z0-9+/]*\d)[A-Za-z0-9+/]{32,}"
    r"|[0-9a-fA-F]{32,}|[A-Z2-7]{32,}|(?:\\x[0-9a-fA-F]{2}){8,}|(?:\\u[0-9a-fA-F]{4}){6,}|(?:%[0-9a-fA-F]{2}){8,}"
    r"|(?:&#?\w{1,8};){6,}|(?:[01]{8} ?){5,}|(?:\b\d{2,3}\b[ ,]+){12,}|(?:\b[0-9a-fA-F]{2} ){12,}"
)
_SHOUTED = r"\b(?:IMPORTANT|MUST|ALWAYS|NEVER|URGENT|CRITICAL|WARNING|ATTENTION|IMMEDIATELY|OBEY|NOW|STOP)\b"
_SHOUTS = "IMPORTANT MUST ALWAYS NEVER URGENT CRITICAL WARNING ATTENTION IMMEDIATELY OBEY NOW STOP".split()
_SENTENCE_END = re.compile(r"[.!?。]\s*")
_LONG_WORD = re.compile(r"([!-~]{80})[!-~]+")

# Most advice takes a short way: what is bare has nothing to clean, and what is short of words has no long codes.
_SIGNS = " .,;:!?'\"()/+$%&@-"
_BARE = re.compile(rf"(?:[A-Za-z0-9{_SIGNS[1:]}]{{1,80}} )*+[A-Za-z0-9{_SIGNS[1:]}]{{1,80}}")  # words, one space apart
_RUNS = ("---", '"""', "'''")  # what a marker in bare text is made of
_LABEL_ENDS = (
    *"system user assistant human developer tool function model bot ai chatgpt claude response input output".split(),
    *"instruction instructions prompt message note notes notice override alert update action actions now".split(),
    *"task far history observation thought answer when".split(),
)
_SHORT_WORDS = re.compile(r"(?:[!-~]{1,31} )*+[!-~]{1,31}")
_HEX_WORDS = re.compile(r" [0-9a-fA-F]{2} [0-9a-fA-F]{2} ")


def clean(text: SkillText) -> SkillText:
    """Returns the text as the bank stores it; a field of nothing but noise comes out empty."""
    return SkillText(**{field: _clean_line(getattr(text, field), limit) for field, limit in LIMITS.items()})


def suspicion(text: SkillText) -> str:
    """Returns why a text looks like an attempt to take over rather than advice about a task, or "".

    A heuristic that errs on the side of advice: what it lets through is still no more than a quoted line.
    """
    said = ". ".join([getattr(text, field)[:limit] for field, limit in LIMITS.items()])
    if _may_be_coded(said) and _compiled(_CODED).search(said):
        return "it holds encoded data"
    if _is_shouted(said) or _is_repeated(_SENTENCE_END.split(said)):
        return "it urges by repetition"
    return reason(said)


def objection(text: SkillText, *, vouched: bool = False) -> str:
    """Returns why a text cannot come from a bank, or "": it is not clean, not whole, or suspicious.

    One that somebody `vouched` for may be suspicious.
    """
    for field, limit in LIMITS.items():
        line = getattr(text, field)
        if _clean_line(line, limit) != line:
            return f"{field} has invisible characters, markers of a chat or prompt, or is too long"
        if not line:
            return f"{field} is empty"
    return "" if vouched else suspicion(text)


def _clean_line(text: str, limit: int) -> str:
    """Returns one line of visible characters without markers, cut at a word to `limit` characters."""
    if len(text) <= limit and _is_bare(text):
        return text
    text = "\n".join(text[: _READ * limit].splitlines())
    while (less := _cut(_stripped(text), limit)) != text:  # a removal can join up another marker
        text = less
    return text


def _is_bare(text: str) -> bool:
    """Returns whether a text is plain words without anything to clean, as most advice is."""
    if not _BARE.fullmatch(text) or any(map(text.__contains__, _RUNS)):
        return False
    lower = text.lower()
    if lower.strip(_SIGNS) in _TURN.split("|"):
        return False
    labels = lower.split(":")[:-1]
    return not any("advice" in label or label.rstrip(_SIGNS).endswith(_LABEL_ENDS) for label in labels)


def _may_be_coded(said: str) -> bool:
    """Returns False for ASCII text of short words with too few digits and escapes for encoded data."""
    return (
        not _SHORT_WORDS.fullmatch(said)
        or sum(map(said.count, "0123456789")) >= 24
        or sum(map(said.count, "\\%&")) >= 6
        or _HEX_WORDS.search(said) is not None
    )


def _is_shouted(said: str) -> bool:
    """Returns whether a text has more than three words that urge in capitals."""
    return sum(map(said.count, _SHOUTS)) > 3 and len(_compiled(_SHOUTED).findall(said)) > 3


def _is_repeated(sentences: list[str]) -> bool:
    """Returns whether a sentence of several words is said more than three times."""
    if len(sentences) - len(set(sentences)) < 3:
        return False
    return max(Counter(s for s in sentences if " " in s).values(), default=0) > 3


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _stripped(text: str) -> str:
    text = _without(_MARKERS, _without(_ROLES, visible(text)))
    return _LONG_WORD.sub(r"\1", " ".join(text.split()))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[: limit + 1].rpartition(" ")[0] or text[:limit]


def _without(pattern: str, text: str) -> str:
    """Returns the text with a space for what the groups of a pattern find in it, look-alike letters read as Latin."""
    kept, end = "", 0
    for found in _compiled(pattern).finditer(latin(text)):
        start, stop = found.span(found.lastindex or 0)
        kept, end = f"{kept}{text[end:start]} ", stop
    return kept + text[end:]
