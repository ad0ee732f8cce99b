"""Compiler of a game's TextWorld grammar into `str.format` templates for commands and feedback.

TextWorld derives every text by querying a logic state, which takes tens of milliseconds. ALFWorld's grammars
differ in words only, never in structure, so each text is compiled once into a template; a grammar with another
structure is rejected rather than misread. Fields of templates: names `{o} {r} {lend} {co} {ko}`, lists `{inside}
{nested} {held} {here} {floor} {room}`, whole texts `{contents} {look} {task}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any

from d2skill.envs.alfworld.pddl import GameError
from d2skill.utils.foreign_files import parse_json

Rules = dict[str, list[dict[str, str]]]

_TASK = re.compile(r'("task"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*)("(?:[^"\\]|\\.)*")')
_PLAIN_TEXT = re.compile(r'([^;|"<>\[\]#{}]+)|"([^;|"<>\[\]#{}]*)"')
_FORMULA = re.compile(r"#[\w()/!<>\-\s,.]+#|\[?\{[^{}]+\}")
_BLOCK = re.compile(r'grammar\s*::\s*"""(.*?)"""', re.DOTALL)
_ACTION = re.compile(r'action\s+(\w+)\s*\{\s*template\s*::\s*"([^"]*)"\s*;\s*feedback\s*::\s*"([^"]*)"\s*;')
_SYMBOL = re.compile(r"\[\{[^|\]]*\|\s*([^\]]*?)\s*\}\]|\{(\w+)\.name[^}]*\}|#([^#]+)#")
_PREDICATE = re.compile(r"(\w+)\s*\(")

_LIST_FIELDS = {
    "inreceptacle(o:object,r:receptacle)": "inside",
    "inreceptacleobject(o2:object,o:object)": "nested",
    "holds(a:agent,o:object)": "held",
    "atlocation(a:agent,l:location)&receptacleatlocation(r:receptacle,l:location)": "here",
    "receptacleatlocation(r:receptacle,lend:location)": "r",  # r is bound: a list of one
}
_TEXT_FIELDS = {
    "look.feedback": "look",
    "task": "task",
    "examineReceptacle.feedback": "contents",
    "list_objects_on_the_floor": "floor",
    "list_appliances": "room",
}
_COMMAND_FIELDS: dict[str, set[str]] = {
    "look": set(),
    "inventory": set(),
    "help": set(),
    "gotolocation": {"r"},
    "openobject": {"r"},
    "closeobject": {"r"},
    "examinereceptacle": {"r"},
    "examineobject": {"o"},
    "toggleobject": {"o"},
    "sliceobject": {"co", "ko"},
}
"""Fields that the command of an action may have; other commands name an object and a receptacle."""
_RESULT_FIELDS = {"o", "co", "ko", "r", "lend", "contents"}
_RULES: dict[str, list[tuple[tuple[str, ...], set[str]]]] = {
    "look": [(("atlocation", "receptacleatlocation"), {"here", "floor"}), ((), {"room"})],
    "inventory": [(("holdsany",), {"held"}), ((), set())],
    "examinereceptacle": [(("openable", "opened"), {"r", "inside"}), (("openable",), {"r"}), ((), {"r", "inside"})],
    "help": [((), set())],
    # Using something sets `isToggled` for good, so only the first feedback ever comes.
    "toggleobject": [(condition, _RESULT_FIELDS) for condition in (("toggleable", "istoggled"), ("toggleable",), ())],
}
"""Conditions of each feedback of an action, and the fields that it may have; other actions have one feedback."""
ACTIONS = (
    "look", "inventory", "examinereceptacle", "examineobject", "gotolocation", "openobject", "closeobject",
    "pickupobject", "putobject", "cleanobject", "heatobject", "coolobject", "toggleobject", "sliceobject",
)  # fmt: skip
"""Actions of ALFWorld's domain; games of 2024 and later have `help` as well."""


@dataclass(frozen=True, slots=True)
class TextTemplates:
    """Compiled grammar: the command template and the feedback templates of each action.

    `feedback[action]` is in the order of the grammar's rules. `examine_conditions` has, for each feedback of
    `examineobject`, the predicates that it requires of the object.
    """

    intro: str
    commands: dict[str, str]
    feedback: dict[str, tuple[str, ...]]
    examine_conditions: tuple[tuple[str, ...], ...]


def compile_grammar(grammar: str) -> tuple[TextTemplates, str]:
    """Returns the templates of a grammar and its task line. Raises `GameError` for another structure."""
    task = _TASK.search(grammar)
    if task is None:
        raise GameError('has a "grammar" without a "task" rule, so there is no task')
    try:
        sentence = str(parse_json(task[2]))
    except ValueError:
        raise GameError(f'has a "grammar" whose "task" rule cannot be read: {task[2][:60]}') from None
    return _compile_templates(_TASK.sub(r'\1""', grammar, count=1)), _displayed_task(sentence)


def _displayed_task(task: str) -> str:
    """Returns the task line that the official engine shows.

    TextWorld reads it as a rule of its grammar, which ends at the first sign that means something there, but not at
    quotation marks in pairs. Raises `GameError` for a task with a formula in it.
    """
    parts, position, text = [], 0, task.lstrip()
    while match := _PLAIN_TEXT.match(text, position):
        parts.append(match[1] or match[2] or "")
        position = match.end()
    if formula := _FORMULA.match(text, position):
        raise GameError(f"has a task with a formula, {formula[0]}, which this engine does not know: write it in words")
    return "".join(parts)


@lru_cache(maxsize=16)
def _compile_templates(grammar: str) -> TextTemplates:
    """Compiles a grammar without its task line; so all games of a release share the templates."""
    rules = _parse_rules(grammar)
    commands: dict[str, str] = {}
    feedback: dict[str, tuple[str, ...]] = {}
    examine_conditions: tuple[tuple[str, ...], ...] = ()
    for name, command, symbol in _ACTION.findall(grammar):
        action = name.lower()
        if action not in ACTIONS and action != "help":
            continue  # older releases left templates of actions that their domain does not have
        template = _fill(command, rules) if action == "gotolocation" else command
        commands[action] = _check_fields(template, _COMMAND_FIELDS.get(action, {"o", "r"}))
        cases = rules.get(symbol[1:-1]) if symbol.startswith("#") else [{"rhs": symbol}]
        if not cases:
            raise GameError(f'has a "grammar" without the rule {symbol} of the action {name}')
        conditions = [tuple(_PREDICATE.findall(case.get("condition", ""))) for case in cases]
        known = _RULES.get(action, [((), _RESULT_FIELDS)])
        if action == "examineobject":
            examine_conditions = tuple(conditions)
            known = [(condition, {"o", "nested"}) for condition in conditions]
        elif conditions != [condition for condition, _ in known]:
            raise GameError(f'has a "grammar" whose rule {symbol} asks for what this engine does not know')
        feedback[action] = tuple(
            _check_fields(_fill(case["rhs"], rules), fields) for case, (_, fields) in zip(cases, known, strict=True)
        )
    for action in ACTIONS:
        if action not in commands:
            raise GameError(f'has a "grammar" without the action {action}')
    intro = _check_fields(_fill(_single_text("intro", rules), rules), {"look", "task"})
    return TextTemplates(intro, commands, feedback, examine_conditions)


def _parse_rules(grammar: str) -> Rules:
    rules: Rules = {}
    for block in _BLOCK.findall(grammar):
        lines = (line for line in block.split("\n") if not line.lstrip().startswith("#"))
        try:
            part: Any = parse_json("\n".join(lines))
        except ValueError as error:
            raise GameError(f'has a "grammar" with a block that is not JSON: {error}') from None
        if not isinstance(part, dict) or not all(_is_rule(rule) for rule in part.values()):
            raise GameError('has a "grammar" with a block that is not a table of rules')
        rules.update(part)
    return rules


def _is_rule(rule: Any) -> bool:
    return isinstance(rule, list) and all(
        isinstance(case, dict) and isinstance(case.get("rhs"), str) and isinstance(case.get("condition", ""), str)
        for case in rule
    )


def _single_text(name: str, rules: Rules) -> str:
    cases = rules.get(name, [])
    if len(cases) != 1 or cases[0].get("condition"):
        raise GameError(f'has a "grammar" in which "{name}" is not one plain sentence')
    return cases[0]["rhs"]


def _check_fields(template: str, allowed: set[str]) -> str:
    """Returns the template if it has the allowed fields only, so that it cannot fail in play."""
    try:
        for _, name, spec, conversion in Formatter().parse(template):
            if name is not None and (name not in allowed or spec or conversion):
                raise ValueError
    except ValueError:
        raise GameError(f'has a "grammar" with words that this engine does not know: {template[:60]}') from None
    return template


def _fill(text: str, rules: Rules) -> str:
    """Turns a right-hand side into a template. Leading white space is lost, as in TextWorld."""

    def field(match: re.Match[str]) -> str:
        query, name, symbol = match.groups()
        if name:
            return "{" + name + "}"
        if symbol:
            known = _TEXT_FIELDS.get(symbol)
            return "{" + known + "}" if known else _fill(_single_text(symbol, rules), rules)
        listed = _LIST_FIELDS.get(re.sub(r"\s", "", query))
        if listed is None:
            raise GameError(f'has a "grammar" that lists what this engine does not know: {query}')
        return "{" + listed + "}"

    return _SYMBOL.sub(field, text.lstrip())
