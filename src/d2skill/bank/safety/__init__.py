"""Sanitising of skill text, and detection of prompt injection in it.

A skill's text was written by a model about text of an environment, or it came with another bank. It is not trusted.
There are three defences, of which the last is the strongest:

1. `clean` makes each field one short line of visible characters, without the role markers of chat templates and of our
   own prompts. Encoded markers (&lt;, %3C, base64) stay: no tokenizer decodes them.
2. `suspicion` detects text that looks like an instruction to whoever runs the policy. It knows few phrases and cannot
   be complete; `bank.suspicion` says whether such a text is held back, or only marked where it is displayed.
3. `prompts.render` shows a skill as one quoted line under a heading that calls it advice.

Stored text is NFKC, so the text that is shown is the text that was checked: full-width letters, ligatures and the like
become plain. Invisible joiners are lost, so some emoji become several.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from functools import cache

from d2skill.bank.safety.injection_phrases import suspicious_phrase
from d2skill.bank.safety.unicode import latin, visible
from d2skill.types import Skill, SkillText

LIMITS = {"title": 120, "principle": 600, "when_to_apply": 300}
"""Longest text of each field, in characters."""

_READ = 4  # of a field, so many times its limit is read
_TAGS = (
    r"think(?:ing)?|thought|reasoning|analysis|scratchpad|answer|actions?|observation|search|information|result"
    r"|tools?|tool_\w+|function(?:s|_calls?)?|invoke|parameter|system|user|assistant|human|developer|model"
    r"|prompt|instructions?|advice|skills?|notes|context|documents?|task|history"
    r"|s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eoh|eoa|eot|(?:start|end)_of_\w+|image|audio|video|fim[_-]\w+"
    r"|unused\d+|unused_token_\d+|extra_id_\d+|special_\d+|reserved_\w+|tokens_unused_\d+|0x[0-9a-f]{2}|ctrl\d+"
    r"|(?:seed|minimax):\w+|(?:start|end)_function_\w+|(?:bos|eos|eop|mask|pad|image_soft)_token|img_context|co:|bot"
    r"|results|arg_(?:key|value)|longcat_\w+|(?:issue|jupyter|commit)_\w+|gh_stars|reponame|empty_output"
    r"|meta(?:_start)?|_start_"
)
_MARKERS = (
    r"(?i)"
    # <|im_start|>, <｜User｜>, <|channel|>final<|message|>, and what is left of nested ones
    r"(<\|[^<>|]{0,40}\|>(?:\s?(?:system|user|assistant|developer|tool|analysis|commentary|final)\s?(?=<\|))?|<\|+|\|+>"
    rf"|<\s?/?\s?(?:{_TAGS})(?:[\s=:/][^<>]{{0,80}})?>|<<\s?/?\s?SYS\s?>>"
    r"|\[\s?/?\s?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+|ARGS|CALL_ID|THINK|IMG\w*|CONTROL_\d+|[gs]?MASK"
    r"|CLS|SEP|PAD|UNK|BOS|EOS|PREFIX|MIDDLE|SUFFIX|AUDIO|BEGIN_AUDIO|TRANSCRIBE)\s?\]"
    r"|<\[[^<>\[\]]{1,40}\]>|\|DSML\||\[\|[^\[\]|]{0,40}\|\]|\]~[!b]\w*[\[\]]?|\[e~\["
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
_SENTENCE_END = re.compile(r"[.!?。]\s*")
_LONG_WORD = re.compile(r"([!-~]{80})[!-~]+")

# Shortcuts that most advice takes: bare text has nothing to clean, and text of short words has no long codes.
_SIGNS = " .,;:!?'\"()/+$%&@-"
_BARE = re.compile(rf"(?:[A-Za-z0-9{_SIGNS[1:]}]{{1,80}} )*+[A-Za-z0-9{_SIGNS[1:]}]{{1,80}}")  # words, one space apart
_RUNS = ("---", '"""', "'''")  # the only markers that bare text can hold
_LABEL_ENDS = (
    *"system user assistant human developer tool function model bot ai chatgpt claude response input output".split(),
    *"instruction instructions prompt message note notes notice override alert update action actions now".split(),
    *"task far history observation thought answer when".split(),
)
_SHORT_WORDS = re.compile(r"(?:[!-~]{1,31} )*+[!-~]{1,31}")
_HEX_WORDS = re.compile(r" [0-9a-fA-F]{2} [0-9a-fA-F]{2} ")


def clean(text: SkillText) -> SkillText:
    """Returns the text as the bank stores it; a field of markers and invisible characters alone becomes empty."""
    return SkillText(**{field: _clean_line(getattr(text, field), limit) for field, limit in LIMITS.items()})


def suspicion(text: SkillText) -> str:
    """Returns the reason why a text looks like prompt injection rather than advice about a task, or "".

    A heuristic that prefers to miss an attack over refusing advice: a prompt shows any text as a quoted line only.
    """
    line = ". ".join([getattr(text, field)[:limit] for field, limit in LIMITS.items()])
    if _may_be_coded(line) and _compiled(_CODED).search(line):
        return "it holds encoded data"
    if _is_repeated(_SENTENCE_END.split(line)):
        return "it urges by repetition"
    return suspicious_phrase(line)


def flags(skills: Iterable[Skill], vouched: Collection[str] = ()) -> dict[str, str]:
    """Returns why some skills look like no advice, by id; those that a person `vouched` for do not count."""
    found = {skill.id: suspicion(skill.text) for skill in skills if skill.id not in vouched}
    return {skill_id: why for skill_id, why in found.items() if why}


def objection(text: SkillText) -> str:
    """Returns the reason why no bank stores such a text, or "": it is not clean, or has an empty field."""
    for field, limit in LIMITS.items():
        line = getattr(text, field)
        if _clean_line(line, limit) != line:
            return f"{field} has invisible characters, markers of a chat or prompt, or is too long"
        if not line:
            return f"{field} is empty"
    return ""


def _clean_line(text: str, limit: int) -> str:
    """Returns one line of visible characters without markers, cut at a word to `limit` characters."""
    if len(text) <= limit and _is_bare(text):
        return text
    text = "\n".join(text[: _READ * limit].splitlines())
    while (less := _cut(_stripped(text), limit)) != text:  # a removal can join up another marker
        text = less
    return text


def _is_bare(text: str) -> bool:
    """Returns True if a text is plain words with nothing to clean, as most advice is."""
    if not _BARE.fullmatch(text) or any(map(text.__contains__, _RUNS)):
        return False
    lower = text.lower()
    if lower.strip(_SIGNS) in _TURN.split("|"):
        return False
    labels = lower.split(":")[:-1]
    return not any("advice" in label or label.rstrip(_SIGNS).endswith(_LABEL_ENDS) for label in labels)


def _may_be_coded(text: str) -> bool:
    """Returns False for ASCII text of short words with too few digits and escapes for encoded data."""
    return (
        not _SHORT_WORDS.fullmatch(text)
        or sum(map(text.count, "0123456789")) >= 24
        or sum(map(text.count, "\\%&")) >= 6
        or _HEX_WORDS.search(text) is not None
    )


def _is_repeated(sentences: list[str]) -> bool:
    """Returns True if a sentence of several words occurs more than three times."""
    if len(sentences) - len(set(sentences)) < 3:
        return False
    return max(Counter(s for s in sentences if " " in s).values(), default=0) > 3


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _stripped(text: str) -> str:
    """Returns the text without markers and role labels, with single spaces, and with words cut to 80 characters."""
    text = _without(_MARKERS, _without(_ROLES, visible(text)))
    return _LONG_WORD.sub(r"\1", " ".join(text.split()))


def _cut(text: str, limit: int) -> str:
    """Returns the first words of a text, up to `limit` characters."""
    if len(text) <= limit:
        return text
    return text[: limit + 1].rpartition(" ")[0] or text[:limit]


def _without(pattern: str, text: str) -> str:
    """Returns the text with the last group of each match of a pattern replaced by a space.

    The pattern is searched in the text with Latin letters in place of look-alikes.
    """
    kept, end = "", 0
    for match in _compiled(pattern).finditer(latin(text)):
        start, stop = match.span(match.lastindex or 0)
        kept, end = f"{kept}{text[end:start]} ", stop
    return kept + text[end:]
