"""The frozen records that flow through an iteration: tasks, skills, prompts, decisions, trajectories, groups, rows.

A trajectory carries its task, arm and index, so nothing is ever found by row position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

from d2skill.errors import ConfigError

Granularity = Literal["task", "step"]
Arm = Literal["skills", "none"]


@dataclass(frozen=True, slots=True)
class Task:
    """A task `g`: its text, a stable id, the split it belongs to and a kind for tables.

    >>> from d2skill import Task
    >>> Task("train/0007", "take the ruby", "train")
    Task(id='train/0007', text='take the ruby', split='train', kind='')
    """

    id: str
    text: str
    split: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """The answer of an environment to a reset or a step.

    `actions` are the admissible actions; `forms` are more of them with a blank, written `...`, in which any text may
    stand, as in "search[...]". Without either, any text is an action. `success` is only true when `done` is; `score`
    says how much of the task was done by then, 0 to 1, where that can be in part. `labels`, if any, say in a few words
    what each of the actions is about, the kind of thing first; a small policy reads them in place of the whole text.

    >>> from d2skill import Observation
    >>> seen = Observation("You stand before two chests.", ("open chest 1", "open chest 2"), forms=("say ...",))
    >>> seen.admits("open chest 1"), seen.admits("say hello"), seen.admits("dance")
    (True, True, False)
    """

    text: str
    actions: tuple[str, ...] = ()
    done: bool = False
    success: bool = False
    score: float | None = None
    forms: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def admits(self, action: str) -> bool:
        """Tells whether an action is admissible, in whatever case and with whatever white space it is written."""
        return bool(self.admissible(action))

    def admissible(self, action: str) -> str:
        """Returns the admissible action that a text means, "" if it means none: case and white space do not matter.

        >>> from d2skill import Observation
        >>> Observation("A shop.", ("click[b01]",), forms=("search[...]",)).admissible("Click[B01]")
        'click[b01]'
        """
        if action in self.actions or not (self.actions or self.forms):
            return action
        if self.actions and action and len(action) <= _LONGEST_ACTION:
            wanted = _plain(action)
            alike = {one for one in self.actions if _plain(one) == wanted}
            if len(alike) == 1:
                return alike.pop()
        return next((filled for form in self.forms if (filled := _fill(form, action))), "")


_LONGEST_ACTION = 10_000


@lru_cache(maxsize=2**16)
def _plain(action: str) -> str:
    return " ".join(action.split()).casefold()


def _fill(form: str, action: str) -> str:
    """Returns a form with what stands in its blank in an action, "" if the action is of another form, or blank."""
    before, _, after = form.partition("...")
    text = action.strip()
    inside = text[len(before) : len(text) - len(after)]
    if len(text) < len(before) + len(after) or not inside.strip():
        return ""
    filled = f"{before}{inside}{after}"
    return filled if filled.casefold() == text.casefold() else ""


@dataclass(frozen=True, slots=True)
class SkillText:
    """The text of a skill: all that a reflector may write and all that a policy gets to see.

    >>> from d2skill import SkillText
    >>> SkillText("Rubies", "The ruby is in chest 3.", "when a ruby is wanted").title
    'Rubies'
    """

    title: str
    principle: str
    when_to_apply: str

    def changed(self, change: Callable[[str], str]) -> SkillText:
        """Returns the text with a change made to each of its fields."""
        return SkillText(change(self.title), change(self.principle), change(self.when_to_apply))


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill of the bank.

    The retrieval key is `task_text` for a task skill and (`task_text`, `observation`) for a step skill (k = g,
    k = (g, o_j)). `retrievals` is `n` of Eq. 8, the number of times it was put before the policy; `credits` counts the
    signals that moved `utility`. `source_task` is the id of the task whose failure it was written from. Iterations are
    zero-based; `evicted` is the iteration in which it left the bank, None while it is active. `supports` and `refutes`
    are the numbers of sources whose trajectories showed that it is right, and that it is wrong.

    >>> from d2skill import Skill, SkillText
    >>> skill = Skill("t1", "task", SkillText("Rubies", "The ruby is in chest 3.", "always"), "take the ruby")
    >>> skill.utility, skill.evicted
    (0.0, None)
    """

    id: str
    granularity: Granularity
    text: SkillText
    task_text: str
    observation: str = ""
    utility: float = 0.0
    retrievals: int = 0
    credits: int = 0
    created: int = 0
    source_task: str = ""
    evicted: int | None = None
    supports: int = 0
    refutes: int = 0


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A skill as retrieval returned it: cosine similarity in [-1, 1] and the score of Eq. 8.

    >>> from d2skill import Draft, SkillBank, SkillText
    >>> bank = SkillBank()
    >>> added = bank.insert([Draft("task", SkillText("Rubies", "The ruby is in chest 3.", "always"), "take the ruby")])
    >>> [[best]] = bank.retrieve_task(["take the ruby"])
    >>> best.skill.text.title, round(best.similarity, 3)
    ('Rubies', 1.0)
    """

    skill: Skill
    similarity: float
    score: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """All a policy sees before one decision, as parts.

    A language model gets them rendered (`prompts.render`), the scorer gets them as they are. `history` holds the last
    L (observation, action) pairs, oldest first; skills come best first. Baseline prompts have no skills. `acts_done` is
    the number of acts of the first task skill that were played so far, -1 if it is not followed act by act, and `got`
    the names of the things that they got.

    >>> from d2skill import Prompt
    >>> Prompt("take the ruby", "You stand before two chests.", ("open chest 1", "open chest 2")).actions[0]
    'open chest 1'
    """

    task: str
    observation: str
    actions: tuple[str, ...]
    history: tuple[tuple[str, str], ...] = ()
    task_skills: tuple[Skill, ...] = ()
    step_skills: tuple[Skill, ...] = ()
    forms: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    acts_done: int = -1
    got: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of a policy to one prompt.

    `text` is the whole answer, `action` the action parsed out of it ("" if none could be). `tokens` and `log_probs`
    are the policy's own record of its choice under the distribution it sampled from, one entry per token: for the
    scorer a single entry, the index of the action. The id of a token is -1 where a server does not tell it.

    >>> from d2skill import Decision
    >>> Decision("open chest 2", "open chest 2", tokens=(1,), log_probs=(-0.69,)).action
    'open chest 2'
    """

    text: str
    action: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]


class AnswerScore(NamedTuple):
    """Log-probability of an answer under a prompt (nats, at temperature 1), and the policy's greedy action there."""

    log_prob: float
    greedy: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One decision, with the prompt it was made on.

    >>> from d2skill import Decision, Prompt, Turn
    >>> prompt = Prompt("take the ruby", "You stand before two chests.", ("open chest 1", "open chest 2"))
    >>> turn = Turn(prompt, Decision("open chest 2", "open chest 2", (1,), (-0.69,)), admissible=True)
    >>> turn.skill_ids
    ()
    """

    prompt: Prompt
    decision: Decision
    admissible: bool

    @property
    def skill_ids(self) -> tuple[str, ...]:
        """Ids of all skills that stood in the prompt the policy acted on."""
        return tuple(s.id for s in (*self.prompt.task_skills, *self.prompt.step_skills))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode: member `index` of its group, in arm `arm`.

    `final` is the observation after the last turn. `fault` names an environment failure that ended the episode; such
    a trajectory counts as not successful. `score` is what the environment gave, None where it gives none.

    >>> from d2skill import Task, Trajectory
    >>> played = Trajectory(Task("train/0007", "take the ruby", "train"), "skills", 3, (), "The end.", success=True)
    >>> played.name, played.invalid_actions
    ('train/0007#3', 0)
    """

    task: Task
    arm: Arm
    index: int
    turns: tuple[Turn, ...]
    final: str
    success: bool
    fault: str = ""
    score: float | None = None

    @classmethod
    def of(
        cls,
        task: Task | str,
        steps: Sequence[tuple[str, str] | tuple[str, str, Sequence[str]]],
        success: bool,
        *,
        final: str = "",
        arm: Arm = "skills",
        index: int = 0,
    ) -> Trajectory:
        """Returns the trajectory of an agent of one's own.

        Args:
            task: The task, or its text.
            steps: For each step the observation, the action, and if they are known the actions that were admissible
                there; an action that is not among them counts as refused by the environment.
            success: True if the task was done.
            final: Observation after the last step.
            arm: "skills" if skills were shown, "none" otherwise.
            index: Number of the attempt, to tell several of one task apart.

        Raises `ConfigError` for what is none of these.

        >>> steps = [("Two chests.", "open chest 1", ["open chest 1", "open chest 2"]), ("It is empty.", "wait")]
        >>> Trajectory.of("take the ruby", steps, success=False).turns[0].prompt.actions
        ('open chest 1', 'open chest 2')
        """
        own = Task(task, task, "own") if isinstance(task, str) else task
        if not isinstance(own, Task):
            raise ConfigError(f"the task of a trajectory is {own!r}: hand in its text, or a d2skill.Task")
        if isinstance(success, str) or success not in (True, False):
            raise ConfigError(f"success is {success!r}: it is True or False")
        if arm not in get_args(Arm):
            raise ConfigError(f"arm is {arm!r}: it is {' or '.join(get_args(Arm))}")
        played: list[Any] = [steps] if isinstance(steps, str) or not isinstance(steps, Iterable) else list(steps)
        for step in played:
            if not _is_step(step):
                raise ConfigError(
                    f"{step!r} is no step: write (observation, action), or (observation, action, [action, ...]) with "
                    "all actions that were admissible"
                )
        turns: list[Turn] = []
        history: list[tuple[str, str]] = []
        for observation, action, *rest in played:
            actions = tuple(rest[0]) if rest else ()
            prompt = Prompt(own.text, observation, actions, tuple(history))
            meant = Observation(observation, actions).admissible(action) or action
            turns.append(Turn(prompt, Decision(action, meant, (), ()), not actions or meant in actions))
            history.append((observation, meant))
        return cls(own, arm, index, tuple(turns), final, bool(success))

    @property
    def name(self) -> str:
        """Name in the bank's journal: task id and index in the group, as in train/0012#3."""
        return f"{self.task.id}#{self.index}"

    @property
    def invalid_actions(self) -> int:
        """Number of turns whose action was not admissible."""
        return sum(not turn.admissible for turn in self.turns)


def _is_step(step: object) -> bool:
    """Returns True for an observation and an action, with a list of actions or without."""
    if not isinstance(step, (tuple, list)) or len(step) not in (2, 3):
        return False
    actions = step[2] if len(step) == 3 else ()
    return isinstance(actions, (tuple, list)) and all(isinstance(text, str) for text in (*step[:2], *actions))


@dataclass(frozen=True, slots=True)
class Group:
    """The N trajectories of one task in one iteration; both halves start from the same state.

    >>> from d2skill import Group, Task, Trajectory
    >>> task = Task("train/0007", "take the ruby", "train")
    >>> pair = [Trajectory(task, arm, index, (), "", index == 0) for index, arm in enumerate(("skills", "none"))]
    >>> [one.success for one in Group(task, tuple(pair)).half("skills")]
    [True]
    """

    task: Task
    trajectories: tuple[Trajectory, ...]

    def half(self, arm: Arm) -> tuple[Trajectory, ...]:
        """Returns the trajectories of one arm, in index order."""
        return tuple(sorted((t for t in self.trajectories if t.arm == arm), key=lambda t: t.index))


@dataclass(frozen=True, slots=True)
class Row:
    """One decision to learn from: the prompt, the choice made there, and the advantage of its trajectory.

    >>> from d2skill import Decision, Prompt, Row
    >>> prompt = Prompt("take the ruby", "You stand before two chests.", ("open chest 1", "open chest 2"))
    >>> Row(prompt, Decision("open chest 2", "open chest 2", (1,), (-0.69,)), advantage=1.5).advantage
    1.5
    """

    prompt: Prompt
    decision: Decision
    advantage: float


@dataclass(frozen=True, slots=True)
class Reflection:
    """The answer of a reflector about a failure (Eq. 7): the earliest failing step, at most one skill of each kind.

    >>> from d2skill import Reflection, SkillText
    >>> Reflection(0, task_skill=SkillText("Rubies", "The ruby is in chest 3.", "always")).step_skill is None
    True
    """

    failing_step: int
    step_skill: SkillText | None = None
    task_skill: SkillText | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the bank that a reflector asks for: a new skill, or evidence or another text for one that is there.

    `add` has a granularity and a text, `revise` an id and a text, `support` and `refute` have an id.

    >>> from d2skill import Edit, SkillText
    >>> Edit("add", "task", text=SkillText("Rubies", "The ruby is in chest 3.", "always")).granularity
    'task'
    >>> Edit("refute", skill_id="t1").skill_id
    't1'
    """

    op: Literal["add", "support", "refute", "revise"]
    granularity: Granularity | None = None
    skill_id: str = ""
    text: SkillText | None = None
