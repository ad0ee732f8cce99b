"""A game's own words: command templates and sentences, taken from the grammar that comes with it.

TextWorld derives every sentence by querying a logic state, which takes tens of milliseconds. ALFWorld's
grammars differ in words only, never in structure, so each sentence is compiled once into a `str.format`
template; a grammar with another structure is refused rather than misread. Fields of templates: names `{o} {r}
{lend} {co} {ko}`, lists `{inside} {nested} {held} {here} {floor} {room}`, whole sentences `{contents} {look}
{task}`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any

from d2skill.envs.alfworld.pddl import Broken

Rules = dict[str, list[dict[str, str]]]

_TASK = re.compile(r'("task"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*)("(?:[^"\\]|\\.)*")')
_TOLD = re.compile(r'([^;|"<>\[\]#{}]+)|"([^;|"<>\[\]#{}]*)"')
_FORMULA = re.compile(r"#[\w()/!<>\-\s,.]+#|\[?\{[^{}]+\}")
_BLOCK = re.compile(r'grammar\s*::\s*"""(.*?)"""', re.DOTALL)
_ACTION = re.compile(r'action\s+(\w+)\s*\{\s*template\s*::\s*"([^"]*)"\s*;\s*feedback\s*::\s*"([^"]*)"\s*;')
_SYMBOL = re.compile(r"\[\{[^|\]]*\|\s*([^\]]*?)\s*\}\]|\{(\w+)\.name[^}]*\}|#([^#]+)#")
_PREDICATE = re.compile(r"(\w+)\s*\(")

_LISTS = {
    "inreceptacle(o:object,r:receptacle)": "inside",
    "inreceptacleobject(o2:object,o:object)": "nested",
    "holds(a:agent,o:object)": "held",
    "atlocation(a:agent,l:location)&receptacleatlocation(r:receptacle,l:location)": "here",
    "receptacleatlocation(r:receptacle,lend:location)": "r",  # r is bound: a list of one
}
_SENTENCES = {
    "look.feedback": "look",
    "task": "task",
    "examineReceptacle.feedback": "contents",
    "list_objects_on_the_floor": "floor",
    "list_appliances": "room",
}
_ARGUMENTS: dict[str, set[str]] = {
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
"""What the command of an action names; the others name an object and a receptacle."""
_REPORT = {"o", "co", "ko", "r", "lend", "contents"}
_FIELDS: dict[str, list[set[str]]] = {
    "look": [{"here", "floor"}, {"room"}],
    "inventory": [{"held"}, set()],
    "examinereceptacle": [{"r", "inside"}, {"r"}, {"r", "inside"}],
    "help": [set()],
}
"""What the sentences of an action may name; others are reports, or about one object."""
_CONDITIONS = {
    "look": [("atlocation", "receptacleatlocation"), ()],
    "inventory": [("holdsany",), ()],
    "examinereceptacle": [("openable", "opened"), ("openable",), ()],
    # Using something sets `isToggled` for good, so only the first sentence is ever said.
    "toggleobject": [("toggleable", "istoggled"), ("toggleable",), ()],
}
ACTIONS = (
    "look", "inventory", "examinereceptacle", "examineobject", "gotolocation", "openobject", "closeobject",
    "pickupobject", "putobject", "cleanobject", "heatobject", "coolobject", "toggleobject", "sliceobject",
)  # fmt: skip
"""The actions of ALFWorld's domain; games of 2024 and later have `help` as well."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The compiled grammar: for each action its command template and its sentences.

    `sentences[action]` is in the order of the grammar's rules; for `examineobject`, `conditions` holds the
    predicates that each of them requires of the object.
    """

    intro: str
    commands: dict[str, str]
    sentences: dict[str, tuple[str, ...]]
    conditions: tuple[tuple[str, ...], ...]


def read_grammar(grammar: str) -> tuple[Wording, str]:
    """Returns a grammar's wording and its task line. Raises `Broken` for one of another structure."""
    task = _TASK.search(grammar)
    if task is None:
        raise Broken('has a "grammar" without a "task" rule, so there is no task')
    try:
        sentence = str(json.loads(task[2]))
    except ValueError:
        raise Broken(f'has a "grammar" whose "task" rule cannot be read: {task[2][:60]}') from None
    return _compile(_TASK.sub(r'\1""', grammar, count=1)), _as_told(sentence)


def _as_told(task: str) -> str:
    """Returns a task as players get to see it: read as a rule of TextWorld's grammar, which ends at the first sign that
    means something there, though not at quotation marks in pairs. Raises `Broken` for a task with a formula in it.
    """
    told, position, text = [], 0, task.lstrip()
    while match := _TOLD.match(text, position):
        told.append(match[1] or match[2] or "")
        position = match.end()
    if formula := _FORMULA.match(text, position):
        raise Broken(f"has a task with a formula, {formula[0]}, which this engine does not know: write it in words")
    return "".join(told)


@lru_cache(maxsize=16)
def _compile(grammar: str) -> Wording:
    """Compiles a grammar without its task line; so all games of a release share one wording."""
    rules = _read_rules(grammar)
    commands: dict[str, str] = {}
    sentences: dict[str, tuple[str, ...]] = {}
    conditions: tuple[tuple[str, ...], ...] = ()
    for name, template, feedback in _ACTION.findall(grammar):
        action = name.lower()
        if action not in ACTIONS and action != "help":
            continue  # older releases left templates of actions that their domain does not have
        command = _fill(template, rules) if action == "gotolocation" else template
        commands[action] = _checked(command, _ARGUMENTS.get(action, {"o", "r"}))
        chosen = rules.get(feedback[1:-1]) if feedback.startswith("#") else [{"rhs": feedback}]
        if not chosen:
            raise Broken(f'has a "grammar" without the rule {feedback} of the action {name}')
        found = tuple(tuple(_PREDICATE.findall(rule.get("condition", ""))) for rule in chosen)
        if action == "examineobject":
            conditions = found
        elif list(found) != _CONDITIONS.get(action, [()]):
            raise Broken(f'has a "grammar" whose rule {feedback} asks for what this engine does not know')
        fields = _FIELDS.get(action) or [{"o", "nested"} if action == "examineobject" else _REPORT] * len(chosen)
        sentences[action] = tuple(
            _checked(_fill(rule["rhs"], rules), allowed) for rule, allowed in zip(chosen, fields, strict=True)
        )
    for action in ACTIONS:
        if action not in commands:
            raise Broken(f'has a "grammar" without the action {action}')
    intro = _checked(_fill(_single("intro", rules), rules), {"look", "task"})
    return Wording(intro, commands, sentences, conditions)


def _read_rules(grammar: str) -> Rules:
    rules: Rules = {}
    for block in _BLOCK.findall(grammar):
        lines = (line for line in block.split("\n") if not line.lstrip().startswith("#"))
        try:
            part: Any = json.loads("\n".join(lines))
        except ValueError as error:
            raise Broken(f'has a "grammar" with a block that is not JSON: {error}') from None
        if not isinstance(part, dict) or not all(_is_rule(rule) for rule in part.values()):
            raise Broken('has a "grammar" with a block that is not a table of rules')
        rules.update(part)
    return rules


def _is_rule(rule: Any) -> bool:
    return isinstance(rule, list) and all(
        isinstance(case, dict) and isinstance(case.get("rhs"), str) and isinstance(case.get("condition", ""), str)
        for case in rule
    )


def _single(name: str, rules: Rules) -> str:
    cases = rules.get(name, [])
    if len(cases) != 1 or cases[0].get("condition"):
        raise Broken(f'has a "grammar" in which "{name}" is not one plain sentence')
    return cases[0]["rhs"]


def _checked(template: str, allowed: set[str]) -> str:
    """Returns a template that names nothing but the allowed fields, so that it cannot fail in play."""
    try:
        for _, name, spec, conversion in Formatter().parse(template):
            if name is not None and (name not in allowed or spec or conversion):
                raise ValueError
    except ValueError:
        raise Broken(f'has a "grammar" with words that this engine does not know: {template[:60]}') from None
    return template


def _fill(text: str, rules: Rules) -> str:
    """Turns a right-hand side into a template. Leading white space is lost, as in TextWorld."""

    def field(match: re.Match[str]) -> str:
        given, name, symbol = match.groups()
        if name:
            return "{" + name + "}"
        if symbol:
            known = _SENTENCES.get(symbol)
            return "{" + known + "}" if known else _fill(_single(symbol, rules), rules)
        listed = _LISTS.get(re.sub(r"\s", "", given))
        if listed is None:
            raise Broken(f'has a "grammar" that lists what this engine does not know: {given}')
        return "{" + listed + "}"

    return _SYMBOL.sub(field, text.lstrip())
