"""The phrases that give away a text which is no advice, and a quick way to see that a text has none of them.

Every line of the table stands under its leads: words of which one stands in whatever the line matches. Ordinary advice
seldom has a lead in it. All leads are looked for at once, and then only the lines that stand under those found.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from typing import NamedTuple

from d2skill.bank.safety.unicode import latin

_SPELLED = re.compile(r"(?:\b[^\W\d] ){9,}")
_SPELLED_WORDS = re.compile(r" (?:[^\W\d] ){9}")  # in folded text
_LEET = str.maketrans("013457@$", "oieastas")
_NO_LETTER = re.compile(r"[^\w/]")
_FOLDED = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)} | _LEET
_FOLDED |= {ord("@"): " ", ord("$"): " ", ord("/"): " / "}  # @ and $ are letters in one view alone, see `_all_words`
_WORDS = {  # what stands in capitals in a line
    "...": r"[^.!?。]{0,40}",
    "THESE": "(this|these|my) NOTE",
    "IGNORE": "(ignore|disregard|forget|overr(ide|ule)|bypass|set aside|no attention to)",
    "FORGET": "(ignore|disregard|forget)",
    "EACH": "(every|each|all|your)",
    "AIM": "(task|goal|objective|purpose|mission)",
    "FETCH": "(fetch|get|post|send|upload|visit|open|download|load|go to|browse|request|import|install|click|see)",
    "TREAT": "(evict|retire|rank|rate|score|grade|credit|upvote|prefer|copy|repeat|obey|trust)",
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
_LEADS = {  # what stands in capitals in the leads
    "FORGET": "ignore |disregard |forget |override |bypass ",
    "ORDERS": "instruction|prompt|rules|guidelines|guidance|directi|constraints|programming|training",
    "MIND": (
        "ai |assistant |model |chat bot |chatbot |bot |agent |hacker |terminal |shell |interpreter |persona "
        "|character |dan |pirate "
    ),
    "SECRETS": "api key|password|secrets |credentials |token|private key|environment variables |chat history ",
    "THESE": (
        "this skill|this note|this advice|this memory|this entry|this tip|these skill|these note|these advice"
        "|these memory|these entry|these tip|my skill|my note|my advice|my memory|my entry|my tip"
    ),
    "NOTE": "skill|note|advice|memory|entry|tip",
    "TRAINER": "reflector|trainer |grader|evaluator|judge |verifier |overseer|harness |reward model",
    "TONGUE": (
        "json |xml |yaml |base64 |rot13 |markdown |french |german |spanish |chinese |russian |japanese |latin |emoji"
    ),
    "AIM": (
        "goal |objective |purpose |mission |real task |true task |actual task |new task |secret task |hidden task "
        "|only task |task has been |task was |task is now "
    ),
    "FORMAT": "output format |answer format |response format |reply format |action format ",
    "REPLIES": (
        "every answer|each answer|all answer|your answer|every repl|each repl|all repl|your repl|every response"
        "|each response|all response|your response|every message|each message|all message|your message"
    ),
}
_OTHER_SCRIPT = ""  # what such a line matches holds, instead of a lead, a letter from this one on
_OTHER_LETTERS = "\u0400"  # the first of Cyrillic; Greek and Latin come before
_SUSPICIOUS: dict[str, dict[str, str | tuple[str, ...]]] = {
    # Leads: lines, in lower case without accents. What stands in capitals is a word above, "..." the rest of a clause.
    # A lead is what a word starts with, all of the word if a space follows; after a * it may be inside a word.
    "it asks to ignore instructions": {
        "ORDERS|context": (
            r"IGNORE...\bBEFORE (\w+ ){0,2}ORDERS",
            r"BEFORE (\w+ ){0,2}ORDERS...\b(no longer|outdated|void|obsolete|ignore)|(disregard|ignore) BEFORE context",
        ),
        "FORGET": (
            r"(FORGET|override|bypass) (all|any|every|the|these) (of )?(the |your )?ORDERS\b(?! [iotfw])",
            r"FORGET (everything|all|anything|what)( \w+){0,3} (above|before|so far|previously|told)\b",
        ),
        "follow|obey|comply with|listen to": (
            r"(do not|don't|stop|no longer|never) (follow|obey|comply with|listen to)(ing)?...\bBEFORE\b"
        ),
        "you were given |you have been given |you got |you received |before this ": (
            r"ORDERS (that )?(you (were|have been) given|you (got|received)|before this)\b"
        ),
        (
            "system told |system said |system says |system asked |developer told |developer said |developer says "
            "|developer asked |prompt told |prompt said |prompt says |prompt asked "
        ): r"(what|everything|all) (the )?(system|developer|prompt) (told|said|says|asked)\b",
        "ignoreall|ignoreany|ignorethe|ignoreprevious|ignoreprior|ignoreabove": (
            r"ignore(all|any)?(the)?(previous|prior|above)(instructions|rules)"
        ),
        "*ignor|*missacht|*vergiss|*vergess|*uberschreib": (
            r"(ignorier|missacht|vergiss|vergessen|uberschreib)\w*...(anweisung|instruktion|vorgabe|regeln|prompt)"
        ),
        "instructions|consignes|regles|*obeis": (
            r"(ignor|oubli)\w*...\b([ltcdv]es|vos) (instructions|consignes|regles)|obei(s|ssez).moi"
        ),
        "*ignor|*olvid|caso omiso": (
            r"(ignor|olvid|haz caso omiso)\w*...(instrucciones|indicaciones|directrices|ordenes|lo anterior)"
        ),
        "*ignor|*esquec|*desconsider": (
            r"(ignor|esquec|desconsider)\w*...(instrucoes|orientacoes|diretrizes|ordens|o que foi dito)"
        ),
        "*ignor|*dimentica": r"(ignora|dimentica)\w*...(istruzioni|comandi|direttive)",
        _OTHER_SCRIPT: (
            r"(игнорир|забуд|не обращай|не следуй)\w*...(инструкци|указани|команд|правил|промпт|все,? что)|подчиняйся",
            r"(忽略|无视|忽視|無視|忘记|忘記|不要理会|不要遵守)...(指令|指示|提示|规则|規則|命令)",
            r"(指示|命令|ルール|プロンプト)...(無視|忘れ|従わ)",
            r"(이전|위의|모든)...(지시|명령|규칙|프롬프트)...(무시|잊)|تجاهل...(التعليمات|الأوامر)",
        ),
    },
    "it asks for the prompt": {
        "system prompt|systemanweisung|instruction systeme|instructions systeme|mensaje d|mensagem d|prompt d": (
            r"system prompts?\b|systemanweisung|instructions? systeme|(mensaje|mensagem|prompt) d[eo]l? sistema"
        ),
        "ORDERS|context ": r"SAY...\b(hidden|secret|original|initial|your) (ORDERS|context)\b",
        "everything above |text above |words above |prompt above |all above ": (
            r"SAY...\b(everything|text|words|prompt|all) above\b"
        ),
        "what are your |what were your |what is your |what was your ": (
            r"what (are|were|is|was) your (\w+ )?(instructions?|prompt)\b"
        ),
        _OTHER_SCRIPT: (
            r"系统提示|系統提示|システムプロンプト|시스템 프롬프트|системн\w+ (промпт|сообщени|инструкци|подсказк)"
        ),
    },
    "it gives the reader another role": {
        "MIND": (
            r"you are (now |no longer |henceforth )?(an? |my |our |the )?([\w']+ ){0,3}MIND\b",
            r"(act|behave|respond|answer|speak|role ?play|pose) (as|like) (an? |my |the )?([\w']+ ){0,3}MIND\b",
            r"(role|persona|part|identity) of (an? )?([\w']+ ){0,3}MIND\b|as (another|a different|a new) MIND\b",
        ),
        "you are now |you are no longer |you are henceforth ": (
            r"you are (now|no longer|henceforth) (free|bound|restricted|limited|required|permitted|in \w+ mode)\b"
        ),
        "stop being |pretend to be |pretend you are |pretend that you |pretend the task ": (
            r"stop being (an? )?MIND\b|pretend (to be an?|you are|that you|the task)\b"
        ),
        "do anything now |jailbreak|jail break|god mode |dan mode |unrestricted mode ": (
            r"do anything now\b|jail ?break|(god|dan|unrestricted) mode\b"
        ),
        (
            "developer mode |without ethical |without moral |without safety |without any ethical |without any moral "
            "|without any safety "
        ): r"developer mode (is )?(now )?(enabled|activated|on)\b|without (any )?(ethical|moral|safety) \w+",
        "from now on|from this point on|henceforth": (
            r"(from (now|this point) on|henceforth),? (you (are|will|must|shall)|your|answer|respond|reply|obey|act)\b"
        ),
        "AIM": (
            r"(your|the) (real|true|actual|new|secret|hidden|only) AIM (is|are|has)\b",
            r"(your|the) (task|goal|objective|mission) (has been|was|is now) (changed|replaced|cancell?ed|updated)",
        ),
        "instruction": r"(new|secret|hidden|real|true) (system )?instructions?\b",
        "obey |comply with |admin override |administrator override |system override |override safety ": (
            r"(obey|comply with) (me|my|this|these|the following)\b|"
            r"(admin(istrator)?|system) override\b|override safety\b"
        ),
        "developer|creator|administrator|openai |anthropic ": (
            r"(i am|this is|from|as|by) (your|the) (\w+ )?(developers?|creators?|administrators?|openai|anthropic)\b"
        ),
        "admin|developer |operator |creator |i order you |i command you |i instruct you ": (
            r"as (an?|your|the) (admin|administrator|developer|operator|creator),? i\b|i (order|command|instruct) you\b"
        ),
        "du bist |tu es |vous etes ": (
            r"du bist (jetzt|nun|ab sofort) (ein|kein|frei|nicht mehr an)|(tu es|vous etes) (maintenant|desormais) un"
        ),
        "ahora eres |eres ahora |voce agora e |agora voce e |ora sei ": (
            r"(ahora eres|eres ahora|voce agora e|agora voce e|ora sei) (un|um|libre|livre)"
        ),
        _OTHER_SCRIPT: (
            r"ты теперь (не |бот|модель|ассистент|хакер|свобод)",
            r"[你您]现在是...(助手|模型|机器人|黑客)|从现在(开始|起),?[你您]",
            r"あなたは(今|これ)から|(今|これ)からあなたは",
        ),
    },
    "it changes the form of the answer": {
        "TONGUE|the word |the phrase |the string ": (
            r"(answer|respond|reply|speak)...\b(in|with|as) (only )?(valid |raw )?(TONGUE|the (word|phrase|string))\b"
        ),
        (
            "reply |respond |answer every |answer each |answer all |answer any |answer to every |answer to each "
            "|answer to all |answer to any "
        ): (
            r"(answer|respond|reply) (to )?(every|each|all|any) (question|message|prompt|observation)s? (with|by|in)\b"
        ),
        "wrap all |wrap every |wrap each |wrap your |enclose ": (
            r"(wrap|enclose) (all|every|each|your) (output|answer|repl)"
        ),
        "reply in |respond in |answer in |speak in ": r"(reply|respond|answer|speak) in \w+ (speak|style|verse|rhyme)",
        "word |phrase |string ": (
            r"(say|output|answer|print|write|respond) (only|nothing but|just) (with )?(the )?(word|phrase|string)\b"
        ),
        "FORMAT": (
            r"(change|alter|replace|drop|abandon|break) (the|your) (output|answer|response|reply|action) format\b",
            r"(output|answer|response|action) format (is now|has changed|changed|no longer|must be)\b",
        ),
        "REPLIES": (
            r"(begin|end|start|finish|prefix|sign) (\w+ )?EACH (answer|repl|response|message)",
            r"EACH (answer|reply|response)s? (must|should|will|ha(s|ve) to) (start|begin|end|contain|be)",
        ),
        "an action |action tag|admissible action": (
            r"(NEVER|refuse to|(instead|in place) of) ...\b(an action|action tags?|admissible actions?)\b"
        ),
        "at all |anymore |any more |any further ": (
            r"(do not|don't|stop|refuse to) (act|answer|respond|reply|play)(ing)? (at all|any ?more|any further)\b"
        ),
        "on purpose|deliberately|fail |lose ": (
            r"(fail|lose)...\b(on purpose|deliberately)|(on purpose|deliberately|intentionally) (fail|lose)\b"
        ),
    },
    "it runs or fetches something": {
        "://": r"FETCH\b.{0,60}\w+://",
        "curl |wget |nc |ncat |invoke webrequest |javascript ": (
            r"(curl|wget|nc|ncat|invoke webrequest)\b.{0,60}(://|\d+\.\d+\.\d+|\| ?(ba)?sh\b| -e |\w\.\w+/)|javascript:"
        ),
        "rm -r|rm r|os.system|eval |exec |sudo rm |drop table |truncate table |import ": (
            r"rm -?rf? [/~$*]|os\.system\(['\"]|(eval|exec)\(['\"]|sudo rm\b|(drop|truncate) table\b|import ?\(['\"]"
        ),
        "run the following |run this |execute the following |execute this ": (
            r"(run|execute) (the following|this) (\w+ )?(code|command|script|shell|python|bash|sql|query|program)\b"
        ),
        "tool |plugin |code interpreter ": (
            r"(call|invoke|trigger) (the |your |a )?(\w+ ){0,2}(tool|plugin|code interpreter)\b"
        ),
        "arguments |parameters |args |input ": (
            r"(name|tool|function)[\"'] ?: ?[\"'][^\"']+[\"'], ?[\"'](arguments|parameters|args|input)\b"
        ),
        "and run|and follow|and execute|and obey|and do |then run|then follow|then execute|then obey|then do ": (
            r"decode...\b(and|then) (run|follow|execute|obey|do)\b"
        ),
    },
    "it moves secrets": {
        "SECRETS": (
            r"(send|post|upload|e ?mail|forward|submit)...\bSECRETS\b.{0,30}\b(to|at|via) (me|us|this|\S+@|\S+\.\w\w)",
            r"(print|output|repeat|show|include|reveal|list|say) (all )?(of )?your (\w+ )?SECRETS\b",
        ),
        "SECRETS|data |prompt |/etc/passwd|/etc/shadow|rsa ": (
            r"(exfiltrat|leak|steal)\w*...\b(SECRETS|data|prompt)\b|/etc/(passwd|shadow)|id rsa\b"
        ),
        "the prompt |your prompt |the context |your context |the conversation |your conversation |secret": (
            r"(send|call|invoke|share|pass|post|upload)...\b((the|your) (prompt|context|conversation)\b|secret)"
        ),
        "user |users |developer|human|anyone |THESE": (
            r"NEVER (tell|inform|mention|reveal)\w*...\b(users?|developers?|humans?|anyone|this NOTE)\b"
        ),
    },
    "it speaks of skills, rewards or those who train": {
        "NOTE": (
            r"THESE...(evict|remov|delet|utility|rank|retriev|highest|rat(e|ing)|scor|permanent|priority)",
            r"THESE...(overrid|supersed|precedence|copied|verbatim|must be|trusted)",
            r"NEVER (evict|remove|delete|drop|retire|forget|quarantine)...\bNOTE\b",
            r"(write|output|add|make) no (more |further |new )*NOTE\b|(every|each|all) (new|other|future) skill",
        ),
        "THESE": r"TREAT...\bTHESE\b",
        "reward |true|totrue": (r"GIVE...\breward ((of|to|=)? ?\d|signal)|success( flag)?( to|=) ?true"),
        "reward |marks |score ": r"GIVE...\b(full|max\w*|highest|perfect) (reward|marks|score)\b",
        "utility|/10|/ 10": r"GIVE...\b((its|the|this|my) utility|utility (of|to|=)|\d+ ?/ ?10)",
        "reflect|reward model|reward hack|reward function|training loop |training run |training module ": (
            r"(NEVER|no) reflect(ion|ing)?\b|reward (model|hack|function)|(training|reflection) (loop|run|module)\b"
        ),
        "TRAINER": (
            r"(note|message|dear|attention|hey|hello) (to |for )?(the |all )?TRAINER\b",
            r"(to the )?(reflector|grader|evaluator|overseer|reward model)s?( must| should|,|:)|to the grader\b",
        ),
        "the reflector |the grader |the evaluator |trains this model|utility of ": (
            r"the (reflector|grader|evaluator) (should|must)\b|trains this model|utility of (this|the) NOTE"
        ),
        "success|solved|correct|passed": (
            r"(mark|count|treat|label)...\b(episode|trajectory|answer|run|rollout)...\b(success|solved|correct|passed)"
        ),
    },
    "it claims to stand above the prompt": {
        "override|supersede|take precedence over |takes precedence over |outrank": (
            r"(overrides?|supersedes?|takes? precedence over|outranks?) (\w+ ){1,3}(ORDERS|NOTE|else|above)\b"
        ),
        "highest priority |top priority |maximum priority |absolute priority ": (
            r"(highest|top|maximum|absolute) priority (instruction|order|directive|message|override)"
        ),
        "advice |notes |prompt |context |quot|skill|user input |user message |system ": (
            r"end of (the )?(advice|notes|prompt|context|quot\w+|skills?|user (input|message)|system)\b"
        ),
        (
            "is a test|was a test|is fake|was fake|is false|was false|is wrong|was wrong|is void|was void|is obsolete"
            "|was obsolete"
        ): r"(everything|all) (above|below|before this)...\b(is|was) (a test|fake|false|wrong|void|obsolete)",
        "this is a|this is only |this is just ": r"this is (only |just )?an? (test|simulation|drill|emergency)\b",
    },
}


def reason(said: str) -> str:
    """Returns why the words of a text look like no advice, or ""."""
    words = _all_words(said)
    if _SPELLED_WORDS.search(words) and _SPELLED.search(_words_apart(said)):
        return "it is spelled letter by letter"
    at_a_word, anywhere, led_by = _leads()
    leads = [f" {lead}" for lead in at_a_word.findall(words)]
    leads += [lead for lead in anywhere if lead in words]
    if not said.isascii() and max(words) >= _OTHER_LETTERS:
        leads.append(_OTHER_SCRIPT)
    if not leads:
        return ""
    views = _views(said)
    lines = [_lines()[number] for number in sorted(set[int]().union(*(led_by[lead] for lead in leads)))]
    return next((line.why for line in lines if any(map(_compiled(line.notation).search, views))), "")


def _views(said: str) -> set[str]:
    """Returns a text in the ways in which it may be read; the lines are looked for in each."""
    plain, read = _words_apart(said), _words_apart(latin(said))
    return {said.lower(), plain, read, read.translate(_LEET)}


def _words_apart(text: str) -> str:
    """Returns the text in lower case with spaces for what else may stand between words."""
    return " ".join(re.sub(r"[_*~`-]", " ", text.lower()).split())


def _all_words(said: str) -> str:
    """Returns the folded words of all views of a text; those of ASCII text are the same unless @ or $ is a letter."""
    if said.isascii() and "@" not in said and "$" not in said:
        return _folded(said)
    return "".join(map(_folded, _views(said)))


def _folded(text: str) -> str:
    """Returns the words of a text with a space around each, digits read as letters, and a slash as a word."""
    if not text.isascii():
        text = _NO_LETTER.sub(" ", text)
    return f" {' '.join(text.translate(_FOLDED).split())} "


class _Line(NamedTuple):
    why: str
    notation: str
    leads: frozenset[str]  # folded: with a space before if it starts a word, and after if it ends one


@cache
def _lines() -> tuple[_Line, ...]:
    """Returns the lines of the table in its order."""
    return tuple(
        _Line(why, line, frozenset(map(_folded_lead, _filled_in(leads, _LEADS).split("|"))))
        for why, groups in _SUSPICIOUS.items()
        for leads, lines in groups.items()
        for line in ((lines,) if isinstance(lines, str) else lines)
    )


def _folded_lead(lead: str) -> str:
    if lead == _OTHER_SCRIPT:
        return lead
    folded = _folded(lead)
    folded = folded.lstrip() if lead.startswith("*") else folded
    return folded if lead.endswith(" ") else folded.rstrip()


@cache
def _leads() -> tuple[re.Pattern[str], list[str], dict[str, set[int]]]:
    """Returns what finds the leads at a word's start, the others, and by lead the numbers of the lines it leads to.

    Of leads that begin alike the shortest is found, being first in order; it stands for the longer ones too.
    """
    lines = _lines()
    leads = sorted(frozenset[str]().union(*(line.leads for line in lines)))
    led_by: dict[str, set[int]] = {lead: set() for lead in leads}
    for number, line in enumerate(lines):
        for own in line.leads:
            for lead in {own[:size] for size in range(min(1, len(own)), len(own) + 1)} & led_by.keys():
                led_by[lead].add(number)
    tails = (
        f"{re.escape(start[1])}(?:{'|'.join(re.escape(lead[2:]) for lead in alike)})"
        for start, alike in groupby((lead for lead in leads if lead.startswith(" ")), key=lambda lead: lead[:2])
    )
    anywhere = [lead for lead in leads if lead and not lead.startswith(" ")]
    return re.compile(f" (?=({'|'.join(tails)}))"), anywhere, led_by


@cache
def _compiled(notation: str) -> re.Pattern[str]:
    """Returns the regular expression of a line of the table, which starts at a word if it is in ASCII.

    What "..." means is not in ASCII, so lines with it may start inside a word, and have leads that hold there too.
    """
    notation = _filled_in(notation, _WORDS)
    return re.compile(rf"\b(?:{notation})" if notation.isascii() else notation)


def _filled_in(notation: str, words: dict[str, str]) -> str:
    for word, meaning in words.items():
        notation = notation.replace(word, meaning)
    return notation
