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
import unicodedata
from collections import Counter
from functools import lru_cache

from d2skill.types import SkillText

LIMITS = {"title": 120, "principle": 600, "when_to_apply": 300}
"""Longest text of each field, in characters."""

_READ = 4  # of a field, this many times its limit is looked at
_MOST_MARKS = 3  # combining marks on one letter; pointed Hebrew and Vietnamese need no more
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control; zero-width, bidirectional, tags; surrogates; private; unassigned
_BLANK = {*"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\ufffc"}  # fillers that are called letters
_BLANK |= {chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))}  # variation selectors
_LOOKALIKES = {
    fake: plain
    for fakes, plains in (
        ("АВЕЅІЈКМНОРСТУХаеіјорсѕухһԁԛԝткмп", "ABESIJKMHOPCTYXaeijopcsyxhdqwtkmn"),  # Cyrillic
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοινραυετκηıɡɑ", "ABEZHIKMNOPTYXoivpauetkniga"),  # Greek, Latin
        ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘǫʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz"),
        ("‹›〈〉⟨⟩❮❯❬❭ᐸᐳ≺≻│∣ǀ❘┃꞉∶ː▁【】〔〕⁄∕", "<><><><><><><>|||||:::_[][]//"),
    )
    for fake, plain in zip(fakes, plains, strict=True)
}

_TAGS = (
    r"think(?:ing)?|thought|reasoning|analysis|scratchpad|answer|actions?|observation|search|information|result"
    r"|tools?|tool_\w+|function(?:s|_calls?)?|invoke|parameter|system|user|assistant|human|developer|model"
    r"|prompt|instructions?|advice|skills?|notes|context|documents?|task|history"
    r"|s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eoh|eoa|eot|(?:start|end)_of_\w+|image|audio|video|fim[_-]\w+"
    r"|unused\d+|extra_id_\d+|special_\d+|reserved_\w+|tokens_unused_\d+|seed:\w+|0x[0-9a-f]{2}"
)
_MARKERS = re.compile(
    # <|im_start|>, <｜User｜>, <|channel|>final<|message|>, and what is left of nested ones
    r"(<\|[^<>|]{0,40}\|>(?:\s?(?:system|user|assistant|developer|tool|analysis|commentary|final)\s?(?=<\|))?|<\|+|\|+>"
    rf"|<\s?/?\s?(?:{_TAGS})(?:[\s=:/][^<>]{{0,80}})?>|<<\s?/?\s?SYS\s?>>"
    r"|\[\s?/?\s?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+|ARGS|CALL_ID|THINK|IMG\w*|CONTROL_\d+|[gs]?MASK"
    r"|CLS|SEP|PAD|UNK|BOS|EOS)\s?\]|\[\|[^\[\]|]{0,40}\|\]|\]~[!b]\w*[\[\]]?|\[e~\["
    r"|`{3,}\w*|~{3,}|<!--|-->|<!\[CDATA\[|\]\]>|[-=_*]{3,}|#{2,}|\"{3,}|'{3,})",
    re.IGNORECASE,
)
_TURN = r"system|user|assistant|human|developer"
_LABEL = (
    rf"(?:(?:gpt4 correct )?(?:{_TURN})|tool|function|model|bot|ai|chatgpt|claude|instructions?|response|input|output"
    r"|system (?:prompt|message|instructions?|notes?|notice|override|alert|update)"
    r"|(?:admissible|available) actions?|now|task|so far|history|observation|action|thought|(?:final )?answer"
    r"|advice[^.:;]{0,80}|apply when)"
)
_ROLES = re.compile(
    # after the start of a line or sentence, a bracket, a heading, or as SYSTEM: in the middle of a sentence
    r"(?:^|[.!?:;…。]\W{0,3}\s|\\[nr]|[>\])]\s?|(?<=\s)[\"'(\[]|(?=#{2}|\*\*|={3}|-{3})"
    r"|(?-i:(?<![A-Z] )\b(?=(?:SYSTEM|USER|ASSISTANT|HUMAN)\b)))"
    rf"([\s#*_>=\[(|~`\"'-]{{0,12}}(?:\b|(?<=\\[nr])){_LABEL}[\s*_\])\"'`|-]{{0,4}}:[*_]{{0,3}})"
    rf"|\A(\W*(?:{_TURN})\W*)\Z"  # a title is followed by a colon in a prompt
    r"|^(\s*>[\s>]*)"  # a past action in a prompt
    rf"|(?<=[>\]])\s?((?:{_TURN}|model|tool)[ ]?)$",  # <|im_start|>system, and a line's end
    re.IGNORECASE | re.MULTILINE,
)
_CODED = re.compile(
    r"(?=[A-Za-z0-9+/]*[a-z])(?=[A-Za-z0-9+/]*[A-Z])(?=[A-Za-z0-9+/]*\d)[A-Za-z0-9+/]{32,}"
    r"|[0-9a-fA-F]{32,}|[A-Z2-7]{32,}|(?:\\x[0-9a-fA-F]{2}){8,}|(?:\\u[0-9a-fA-F]{4}){6,}|(?:%[0-9a-fA-F]{2}){8,}"
    r"|(?:&#?\w{1,8};){6,}|(?:[01]{8} ?){5,}|(?:\b\d{2,3}\b[ ,]+){12,}|(?:\b[0-9a-fA-F]{2} ){12,}"
)
_WORDS = {
    "...": r"[^.!?。]{0,40}",
    "BEFORE": "(previous|prior|above|earlier|preceding|former|original|initial|system|your|existing)",
    "ORDERS": "(instructions?|prompts?|rules|guidelines|guidance|directi(on|ve)s?|constraints|programming|training)",
    "MIND": "(ai|assistant|model|chat ?bot|bot|agent|hacker|terminal|shell|interpreter|persona|character|dan|pirate)",
    "SECRETS": "(api keys?|passwords?|secrets|credentials|tokens?|private keys?|environment variables|chat history)",
    "NOTE": "(skills?|notes?|advice|memory|entry|tips?)",
    "TRAINER": "(reflector|trainer|grader|evaluator|judge|verifier|overseer|harness|reward model)",
    "SAY": "(reveal|repeat|print|show|output|display|disclose|recite|copy|tell|dump|expose)",
    "GIVE": "(give|assign|set|report|grant|award|raise|increase|return|force)",
    "NEVER": "(never|do not|don't|without|stop|skip)",
    "TONGUE": "(json|xml|yaml|base64|rot13|markdown|french|german|spanish|chinese|russian|japanese|latin|emojis?)",
}
_SUSPICIOUS = {  # in lower case without accents; what stands in capitals is a word above, "..." the rest of a clause
    "it asks to ignore instructions": (
        r"(ignore|disregard|forget|overr(ide|ule)|bypass|set aside|no attention to)...\bBEFORE (\w+ ){0,2}ORDERS",
        r"(ignore|disregard|forget|override|bypass) (all|any|every|the|these) (of )?(the |your )?ORDERS\b(?! [iotfw])",
        r"(ignore|disregard|forget) (everything|all|anything|what)( \w+){0,3} (above|before|so far|previously|told)\b",
        r"(do not|don't|stop|no longer|never) (follow|obey|comply with|listen to)(ing)?...\bBEFORE\b",
        r"BEFORE (\w+ ){0,2}ORDERS...\b(no longer|outdated|void|obsolete|ignore)|(disregard|ignore) BEFORE context",
        r"ORDERS (that )?(you (were|have been) given|you (got|received)|before this)\b",
        r"(what|everything|all) (the )?(system|developer|prompt) (told|said|says|asked)\b",
        r"ignore(all|any)?(the)?(previous|prior|above)(instructions|rules)",
        r"(ignorier|missacht|vergiss|vergessen|uberschreib)\w*...(anweisung|instruktion|vorgabe|regeln|prompt)",
        r"(ignor|oubli)\w*...\b([ltcdv]es|vos) (instructions|consignes|regles)|obei(s|ssez).moi",
        r"(ignor|olvid|haz caso omiso)\w*...(instrucciones|indicaciones|directrices|ordenes|lo anterior)",
        r"(ignor|esquec|desconsider)\w*...(instrucoes|orientacoes|diretrizes|ordens|o que foi dito)",
        r"(ignora|dimentica)\w*...(istruzioni|comandi|direttive)",
        r"(игнорир|забуд|не обращай|не следуй)\w*...(инструкци|указани|команд|правил|промпт|все,? что)|подчиняйся",
        r"(忽略|无视|忽視|無視|忘记|忘記|不要理会|不要遵守)...(指令|指示|提示|规则|規則|命令)",
        r"(指示|命令|ルール|プロンプト)...(無視|忘れ|従わ)",
        r"(이전|위의|모든)...(지시|명령|규칙|프롬프트)...(무시|잊)|تجاهل...(التعليمات|الأوامر)",
    ),
    "it asks for the prompt": (
        r"system prompts?\b|systemanweisung|instructions? systeme|(mensaje|mensagem|prompt) d[eo]l? sistema",
        r"SAY...\b(hidden|secret|original|initial|your) (ORDERS|context)\b",
        r"SAY...\b(everything|text|words|prompt|all) above\b",
        r"what (are|were|is|was) your (\w+ )?(instructions?|prompt)\b",
        r"系统提示|系統提示|システムプロンプト|시스템 프롬프트|системн\w+ (промпт|сообщени|инструкци|подсказк)",
    ),
    "it gives the reader another role": (
        r"you are (now |no longer |henceforth )?(an? |my |our |the )?([\w']+ ){0,3}MIND\b",
        r"you are (now|no longer|henceforth) (free|bound|restricted|limited|required|permitted|in \w+ mode)\b",
        r"(act|behave|respond|answer|speak|role ?play|pose) (as|like) (an? |my |the )?([\w']+ ){0,3}MIND\b",
        r"(role|persona|part|identity) of (an? )?([\w']+ ){0,3}MIND\b|as (another|a different|a new) MIND\b",
        r"stop being (an? )?MIND\b|pretend (to be an?|you are|that you|the task)\b",
        r"do anything now\b|jail ?break|(god|dan|unrestricted) mode\b",
        r"developer mode (is )?(now )?(enabled|activated|on)\b|without (any )?(ethical|moral|safety) \w+",
        r"(from (now|this point) on|henceforth),? (you (are|will|must|shall)|your|answer|respond|reply|obey|act)\b",
        r"(your|the) (real|true|actual|new|secret|hidden|only) (task|goal|objective|purpose|mission) (is|are|has)\b",
        r"(new|secret|hidden|real|true) (system )?instructions?\b",
        r"(your|the) (task|goal|objective|mission) (has been|was|is now) (changed|replaced|cancell?ed|updated)",
        r"(obey|comply with) (me|my|this|these|the following)\b|(admin(istrator)?|system) override\b|override safety\b",
        r"(i am|this is|from|as|by) (your|the) (\w+ )?(developers?|creators?|administrators?|openai|anthropic)\b",
        r"as (an?|your|the) (admin|administrator|developer|operator|creator),? i\b|i (order|command|instruct) you\b",
        r"du bist (jetzt|nun|ab sofort) (ein|kein|frei|nicht mehr an)|(tu es|vous etes) (maintenant|desormais) un",
        r"(ahora eres|eres ahora|voce agora e|agora voce e|ora sei) (un|um|libre|livre)",
        r"ты теперь (не |бот|модель|ассистент|хакер|свобод)",
        r"[你您]现在是...(助手|模型|机器人|黑客)|从现在(开始|起),?[你您]",
        r"あなたは(今|これ)から|(今|これ)からあなたは",
    ),
    "it changes the form of the answer": (
        r"(answer|respond|reply|speak)...\b(in|with|as) (only )?(valid |raw )?(TONGUE|the (word|phrase|string))\b",
        r"(answer|respond|reply) (to )?(every|each|all|any) (question|message|prompt|observation)s? (with|by|in)\b",
        r"(wrap|enclose) (all|every|each|your) (output|answer|repl)",
        r"(reply|respond|answer|speak) in \w+ (speak|style|verse|rhyme)",
        r"(say|output|answer|print|write|respond) (only|nothing but|just) (with )?(the )?(word|phrase|string)\b",
        r"(change|alter|replace|drop|abandon|break) (the|your) (output|answer|response|reply|action) format\b",
        r"(output|answer|response|action) format (is now|has changed|changed|no longer|must be)\b",
        r"(begin|end|start|finish|prefix|sign) (\w+ )?(every|each|all|your) (answer|repl|response|message)",
        r"(every|each|all|your) (answer|reply|response)s? (must|should|will|ha(s|ve) to) (start|begin|end|contain|be)",
        r"(NEVER|refuse to|(instead|in place) of) ...\b(an action|action tags?|admissible actions?)\b",
        r"(do not|don't|stop|refuse to) (act|answer|respond|reply|play)(ing)? (at all|any ?more|any further)\b",
        r"(fail|lose)...\b(on purpose|deliberately)|(on purpose|deliberately|intentionally) (fail|lose)\b",
    ),
    "it runs or fetches something": (
        r"(fetch|get|post|send|upload|visit|open|download|load|go to|browse|request|import|install|click|see)\b.{0,60}\w+://",
        r"(curl|wget|nc|ncat|invoke webrequest)\b.{0,60}(://|\d+\.\d+\.\d+|\| ?(ba)?sh\b| -e |\w\.\w+/)|javascript:",
        r"rm -?rf? [/~$*]|os\.system\(['\"]|(eval|exec)\(['\"]|sudo rm\b|(drop|truncate) table\b|import ?\(['\"]",
        r"(run|execute) (the following|this) (\w+ )?(code|command|script|shell|python|bash|sql|query|program)\b",
        r"(call|invoke|trigger) (the |your |a )?(\w+ ){0,2}(tool|plugin|code interpreter)\b",
        r"(name|tool|function)[\"'] ?: ?[\"'][^\"']+[\"'], ?[\"'](arguments|parameters|args|input)\b",
        r"decode...\b(and|then) (run|follow|execute|obey|do)\b",
    ),
    "it moves secrets": (
        r"(send|post|upload|e ?mail|forward|submit)...\bSECRETS\b.{0,30}\b(to|at|via) (me|us|this|\S+@|\S+\.\w\w)",
        r"(exfiltrat|leak|steal)\w*...\b(SECRETS|data|prompt)\b|/etc/(passwd|shadow)|id rsa\b",
        r"(send|call|invoke|share|pass|post|upload)...\b((the|your) (prompt|context|conversation)\b|secret)",
        r"(print|output|repeat|show|include|reveal|list|say) (all )?(of )?your (\w+ )?SECRETS\b",
        r"NEVER (tell|inform|mention|reveal)\w*...\b(users?|developers?|humans?|anyone|this NOTE)\b",
    ),
    "it speaks of skills, rewards or those who train": (
        r"(this|these|my) NOTE...(evict|remov|delet|utility|rank|retriev|highest|rat(e|ing)|scor|permanent|priority)",
        r"(this|these|my) NOTE...(overrid|supersed|precedence|copied|verbatim|must be|trusted)",
        r"(evict|retire|rank|rate|score|grade|credit|upvote|prefer|copy|repeat|obey|trust)...\b(this|these|my) NOTE\b",
        r"NEVER (evict|remove|delete|drop|retire|forget|quarantine)...\bNOTE\b",
        r"GIVE...\breward ((of|to|=)? ?\d|signal)|success( flag)?( to|=) ?true",
        r"GIVE...\b(full|max\w*|highest|perfect) (reward|marks|score)\b",
        r"GIVE...\b((its|the|this|my) utility|utility (of|to|=)|\d+ ?/ ?10)",
        r"(NEVER|no) reflect(ion|ing)?\b|reward (model|hack|function)|(training|reflection) (loop|run|module)\b",
        r"(note|message|dear|attention|hey|hello) (to |for )?(the |all )?TRAINER\b",
        r"(to the )?(reflector|grader|evaluator|overseer|reward model)s?( must| should|,|:)|to the grader\b",
        r"(write|output|add|make) no (more |further |new )*NOTE\b|(every|each|all) (new|other|future) skill",
        r"the (reflector|grader|evaluator) (should|must)\b|trains this model|utility of (this|the) NOTE",
        r"(mark|count|treat|label)...\b(episode|trajectory|answer|run|rollout)...\b(success|solved|correct|passed)",
    ),
    "it claims to stand above the prompt": (
        r"(overrides?|supersedes?|takes? precedence over|outranks?) (\w+ ){1,3}(ORDERS|NOTE|else|above)\b",
        r"(highest|top|maximum|absolute) priority (instruction|order|directive|message|override)",
        r"end of (the )?(advice|notes|prompt|context|quot\w+|skills?|user (input|message)|system)\b",
        r"(everything|all) (above|below|before this)...\b(is|was) (a test|fake|false|wrong|void|obsolete)",
        r"this is (only |just )?an? (test|simulation|drill|emergency)\b",
    ),
}


def _phrase(notation: str) -> str:
    """Returns the regular expression of a line of the table above; only what is written in Latin starts at a word."""
    for word, meaning in _WORDS.items():
        notation = notation.replace(word, meaning)
    return rf"\b(?:{notation})" if notation.isascii() else notation


_PHRASES = {why: re.compile("|".join(map(_phrase, lines))) for why, lines in _SUSPICIOUS.items()}
_SHOUTED = re.compile(
    r"\b(?:IMPORTANT|MUST|ALWAYS|NEVER|URGENT|CRITICAL|WARNING|ATTENTION|IMMEDIATELY|OBEY|NOW|STOP)\b"
)
_SPELLED = re.compile(r"(?:\b[^\W\d] ){9,}")
_LEET = str.maketrans("013457@$", "oieastas")
_LONG_WORD = re.compile(r"([!-~]{80})[!-~]+")


def clean(text: SkillText) -> SkillText:
    """Returns the text as the bank stores it; a field of nothing but noise comes out empty."""
    return SkillText(**{field: _clean_line(getattr(text, field), limit) for field, limit in LIMITS.items()})


def suspicion(text: SkillText) -> str:
    """Returns why a text looks like an attempt to take over rather than advice about a task, or "".

    A heuristic that errs on the side of advice: what it lets through is still no more than a quoted line.
    """
    said = ". ".join(getattr(text, field)[:limit] for field, limit in LIMITS.items())
    if _CODED.search(said):
        return "it holds encoded data"
    if len(_SHOUTED.findall(said)) > 3 or _most_frequent(re.split(r"[.!?。]\s*", said)) > 3:
        return "it urges by repetition"
    plain = _words_apart(said)
    if _SPELLED.search(plain):
        return "it is spelled letter by letter"
    views = {said.lower(), plain, _words_apart(_latin(said)), _words_apart(_latin(said).translate(_LEET))}
    return next((why for why, phrases in _PHRASES.items() if any(map(phrases.search, views))), "")


def objection(text: SkillText) -> str:
    """Returns why a text cannot come from a bank, or "": it is not clean, not whole, or suspicious."""
    cleaned = clean(text)
    for field in LIMITS:
        if getattr(cleaned, field) != getattr(text, field):
            return f"{field} has invisible characters, markers of a chat or prompt, or is too long"
        if not getattr(text, field):
            return f"{field} is empty"
    return suspicion(text)


def _clean_line(text: str, limit: int) -> str:
    """Returns one line of visible characters without markers, cut at a word to `limit` characters."""
    text = "\n".join(text[: _READ * limit].splitlines())
    while (less := _cut(_stripped(text), limit)) != text:  # a removal can join up another marker
        text = less
    return text


def _words_apart(text: str) -> str:
    """Returns the text in lower case with spaces for what else may stand between words."""
    return " ".join(re.sub(r"[_*~`-]", " ", text.lower()).split())


def _most_frequent(sentences: list[str]) -> int:
    """Returns how often the sentence of several words that is said most often is said."""
    return max(Counter(s for s in sentences if " " in s).values(), default=0)


def _stripped(text: str) -> str:
    text = _without(_MARKERS, _without(_ROLES, _visible(text)))
    return _LONG_WORD.sub(r"\1", " ".join(text.split()))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[: limit + 1].rpartition(" ")[0] or text[:limit]


def _visible(text: str) -> str:
    """Returns the text as NFKC without what cannot be seen and without floods of combining marks."""
    kept, room = [], 0
    for character in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(character)
        if character.isspace():
            room = 0
        elif kind in _INVISIBLE or character in _BLANK:
            continue
        elif kind in ("Mn", "Me"):
            room -= 1
            if room < 0:
                continue
        else:
            room = _MOST_MARKS
        kept.append(character)
    return "".join(kept)


def _without(pattern: re.Pattern[str], text: str) -> str:
    """Returns the text with a space for what the groups of a pattern find in it, look-alike letters read as Latin."""
    kept, end = "", 0
    for found in pattern.finditer(_latin(text)):
        start, stop = found.span(found.lastindex or 0)
        kept, end = f"{kept}{text[end:start]} ", stop
    return kept + text[end:]


def _latin(text: str) -> str:
    """Returns the text, as long as it was, with Latin letters for accented ones and for those that look like them."""
    return text if text.isascii() else "".join(map(_latin_letter, text))


@lru_cache(maxsize=4096)
def _latin_letter(character: str) -> str:
    return _LOOKALIKES.get(character) or unicodedata.normalize("NFD", character)[0]
