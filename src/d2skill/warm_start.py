"""Warm start: imitate a scripted expert that searches as an agent must, with advice in the prompt and without.

Reinforcement learning gets nowhere from a policy that never succeeds, and skills cannot matter to one that never saw
any. So some demonstrations carry skills, made and retrieved as in training: some right (from this very game), some
misleading (from the game with the most similar task, keyed to this one). The expert first tries the skills' advice and
goes on by itself when it does not help. With consolidated skills an advised game is shown plain as well, so advice
takes no demonstration away from the policy without skills; misleading places come first and right ones after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from d2skill.bank import Draft, SkillBank
from d2skill.bank.answer_guard import AnswerGuard
from d2skill.config import Config
from d2skill.embedders import make_embedder
from d2skill.episode import Episode
from d2skill.errors import ConfigError, ReflectionFault
from d2skill.knowledge.evidence import Evidence, evidence_of, misleading
from d2skill.learner import answer_guard, drafts_from
from d2skill.policies.answers import parse_action
from d2skill.prompts import free_forms, render_skill
from d2skill.protocols import Embedder, Environment, Policy, Reflector, SupportsExpert
from d2skill.rollout import start_session
from d2skill.runs import trajectories
from d2skill.types import Arm, Decision, Prompt, Trajectory
from d2skill.utils.foreign_text import logger
from d2skill.utils.rng import derive, generator

Demonstration = tuple[Prompt, str]
"""A prompt, and the action or the whole answer that is imitated"""
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One demonstrated game: its id and, where it is advised, the drafts or the evidence that its prompts may show."""

    task_id: str
    advice: tuple[Draft, ...] = ()
    evidence: tuple[Evidence, ...] = ()


def warm_start(
    config: Config,
    environment: Environment,
    policy: Policy,
    reflector: Reflector,
    train_ids: Sequence[str],
    embedder: Embedder | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Lets the policy imitate demonstrations, makes it the reference policy, and returns metrics.

    Without an expert, a file or demonstrations, or with a served policy, there is no imitation.

    Args:
        config: The run's settings.
        environment: Plays the demonstrations; its expert decides.
        policy: The policy that learns.
        reflector: Writes the advice of the demonstrations.
        train_ids: Tasks to take demonstrations from.
        embedder: Embedder of the advice; without one, that of the settings.
        on_step: Called after each optimiser step of a policy that tells of them, with its number and that of all.
    """
    metrics: dict[str, float] = {}
    file, demonstrations = config.warm_start.trajectories, []
    if config.policy.kind == "served":
        pass
    elif file:
        demonstrations = demonstrated_again(config, environment, policy, file)
    elif isinstance(environment, SupportsExpert) and config.warm_start.tasks:
        guard = answer_guard(environment, config.reflect)
        demonstrations = demonstrate(config, environment, reflector, policy, train_ids, embedder, guard)
        if (caught := guard.caught()) is not None:
            metrics["warm_start/with_answer"] = caught
    if demonstrations:
        with _told_steps(policy, on_step):
            metrics |= policy.imitate(demonstrations, derive(config.seed, "imitate"))
        metrics["warm_start/demonstrations"] = len(demonstrations)
    policy.freeze_reference()
    return metrics


@contextmanager
def _told_steps(policy: Policy, on_step: Callable[[int, int], None] | None) -> Iterator[None]:
    """Lets a policy that tells of its steps of imitation do so inside."""
    if hasattr(policy, "on_imitation_step"):
        policy.on_imitation_step = on_step
    try:
        yield
    finally:
        if hasattr(policy, "on_imitation_step"):
            policy.on_imitation_step = None


def demonstrate(
    config: Config,
    environment: Environment,
    reflector: Reflector,
    policy: Policy,
    train_ids: Sequence[str],
    embedder: Embedder | None = None,
    guard: AnswerGuard | None = None,
) -> list[Demonstration]:
    """Returns the decisions of successful expert episodes, each with the prompt it was made on.

    Args:
        config: The run's settings; `warm_start.tasks` games are played.
        environment: An environment with an expert.
        reflector: Writes the advice of the demonstrations.
        policy: Counts the tokens of prompts.
        train_ids: Tasks to choose from.
        embedder: Embedder of the advice; without one, that of the settings.
        guard: Keeps answers out of the advice, and counts it; without one, that of the settings.
    """
    settings = config.warm_start
    rng = generator(config.seed, "warm-start")
    count = min(settings.tasks, len(train_ids))
    chosen = [train_ids[i] for i in rng.permutation(len(train_ids))[:count]]
    player = _Demonstrator(config, environment, policy, embedder, guard)
    if config.bank.skills == "consolidated":
        lessons = _consolidated_lessons(config, player, chosen, rng)
    else:
        lessons = _paper_lessons(config, player, reflector, chosen, rng)
    demonstrations: list[Demonstration] = []
    for number, lesson in enumerate(lessons):
        played = player.play(lesson, derive(config.seed, "lesson", number))
        if played.success:
            demonstrations += [(turn.prompt, turn.decision.action) for turn in played.turns]
    return demonstrations


def demonstrated_again(config: Config, environment: Environment, policy: Policy, file: Path) -> list[Demonstration]:
    """Returns the decisions of the saved trajectories that were won, each with the prompt of the settings.

    They are played again, for a file holds no prompts; decisions that were not admissible are left out. With free
    answers the whole saved answer is imitated.

    Args:
        config: Settings of prompts and answers.
        environment: The environment in which they were played.
        policy: Counts the tokens of prompts.
        file: The file.

    Raises:
        RunError: The file cannot be read.
        ConfigError: It holds no trajectory that was won, or none that can be played again.
    """
    free = config.policy.kind == "causal-lm" and config.policy.lm.answer == "free"
    won = [one for one in trajectories.read(file) if one.success and not one.fault]
    demonstrations: list[Demonstration] = []
    changed = ""
    for saved in won:
        steps = len(saved.turns)
        try:
            session, fault = start_session(environment, saved.task.id)
        except ConfigError as error:
            changed = changed or str(error)
            continue
        count = policy.count_tokens
        episode = Episode(
            session, fault=fault, arm="none", index=0, max_steps=steps, settings=config.prompt, count_tokens=count
        )
        for turn in saved.turns:
            if episode.done or episode.query[1] != turn.observation:
                break
            episode.act(episode.prompt(), Decision(turn.answer or turn.action, turn.action, (), ()))
        played = episode.trajectory()
        if played.success:
            for turn, kept in zip(saved.turns, played.turns, strict=False):  # it may be won sooner
                if kept.admissible:
                    whole = free and parse_action(turn.answer, free_forms(kept.prompt))
                    demonstrations.append((kept.prompt, turn.answer if whole else kept.decision.action))
        else:
            changed = changed or f"{saved.task.id} differs in step {len(played.turns) + 1} of {steps}"
    if not demonstrations:
        problem = f"plays as it was saved ({changed})" if won else "was won"
        raise ConfigError(
            f"{file}: no trajectory of it {problem}: name one that was won in this environment, and its settings"
        )
    if changed:
        _log.warning("%s: some trajectories do not play as they were saved and are left out: %s", file, changed)
    return demonstrations


def _paper_lessons(
    config: Config, player: _Demonstrator, reflector: Reflector, chosen: Sequence[str], rng: np.random.Generator
) -> list[Lesson]:
    """Returns a lesson for each game; some have the drafts of a reflection on this game or on a similar one."""
    drafts = {task_id: _reflect_on(player, reflector, task_id) for task_id in chosen}
    similar = _SimilarGames(player, {task_id: own[0].task_text for task_id, own in drafts.items() if own})
    lessons = []
    for task_id in chosen:
        advised, misled = rng.random() < config.warm_start.advised, rng.random() < config.warm_start.misled
        other = similar.to(task_id) if misled else None
        advice = player.rekey(task_id, drafts[other] if other else ()) if misled else drafts[task_id]
        lessons.append(Lesson(task_id, advice if advised else ()))
    return lessons


def _consolidated_lessons(
    config: Config, player: _Demonstrator, chosen: Sequence[str], rng: np.random.Generator
) -> list[Lesson]:
    """Returns a plain lesson for each game, and for some of them one with evidence of this game, or misleading."""
    played = {task_id: player.play(Lesson(task_id), derive(player.seed, "success", task_id)) for task_id in chosen}
    won = {task_id: one for task_id, one in played.items() if one.success}
    similar = _SimilarGames(player, {task_id: one.task.text for task_id, one in won.items()})
    lessons = []
    for task_id in chosen:
        lessons.append(Lesson(task_id))
        advised, misled = rng.random() < config.warm_start.advised, rng.random() < config.warm_start.misled
        other = similar.to(task_id) if misled else None
        if advised and task_id in won:
            wrong = misleading(won[task_id], won[other]) if other else []
            lessons.append(Lesson(task_id, evidence=(*evidence_of(won[task_id]), *wrong)))
    return lessons


def advice(
    config: Config, environment: Environment, reflector: Reflector, policy: Policy, task_ids: Sequence[str]
) -> Iterator[tuple[Draft, ...]]:
    """Yields for each task the drafts of a reflection on expert episodes; () where the expert fails.

    Args:
        config: The run's settings.
        environment: An environment with an expert.
        reflector: Writes the drafts.
        policy: Counts the tokens of prompts.
        task_ids: Tasks to play.
    """
    player = _Demonstrator(config, environment, policy)
    return (_reflect_on(player, reflector, task_id) for task_id in task_ids)


def _reflect_on(player: _Demonstrator, reflector: Reflector, task_id: str) -> tuple[Draft, ...]:
    """Returns the drafts of a reflection on one game: a success beside another episode that is cut off half way."""
    success = player.play(Lesson(task_id), derive(player.seed, "success", task_id))
    if not success.success or len(success.turns) < 2:
        return ()
    other = player.play(Lesson(task_id), derive(player.seed, "failure", task_id))
    failure = replace(other, success=False, turns=other.turns[: max(1, len(other.turns) // 2)])
    try:
        return tuple(drafts_from(reflector.reflect(failure, success), failure))
    except ReflectionFault:
        return ()


class _SimilarGames:
    """Lookup of the game with the most similar task, among some games whose texts are given by id."""

    def __init__(self, player: _Demonstrator, texts: Mapping[str, str]) -> None:
        self._player = player
        self._ids = list(texts)
        self._vectors = player.embedder.embed(list(texts.values()))

    def to(self, task_id: str) -> str | None:
        """Returns the id of another game, None if there is no other."""
        others = [place for place, other in enumerate(self._ids) if other != task_id]
        if not others:
            return None
        (vector,) = self._player.embedder.embed([self._player.task_text(task_id)])
        return self._ids[others[int(np.argmax(self._vectors[others] @ vector))]]


class _Demonstrator:
    """Plays an environment's expert through the same episodes, prompts and retrieval as a policy."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        policy: Policy,
        embedder: Embedder | None = None,
        guard: AnswerGuard | None = None,
    ) -> None:
        self.seed = config.seed
        self._config = config
        self._guard = guard or answer_guard(environment, config.reflect)
        self._environment = environment
        self._policy = policy
        self.embedder = embedder or make_embedder(config.embedder)

    def play(self, lesson: Lesson, seed: int) -> Trajectory:
        """Plays one episode; the expert is given the words of the skills that the prompt shows."""
        session, fault = start_session(self._environment, lesson.task_id)
        bank = self._bank(lesson)
        arm: Arm = "skills" if bank else "none"
        episode = Episode(
            session,
            fault=fault,
            arm=arm,
            index=0,
            max_steps=self._config.env.max_steps,
            settings=self._config.prompt,
            count_tokens=self._policy.count_tokens,
        )
        hints: list[str] = []
        if bank and lesson.evidence:
            procedure, situations = bank.advise([episode.start])[0]
            episode.advise(procedure, situations)
            hints = [render_skill(one.skill) for one in situations]
        elif bank:
            episode.task_skills = bank.retrieve_task([session.task.text])[0]
            hints = [render_skill(skill) for skill in bank.skills()]
        assert isinstance(self._environment, SupportsExpert)
        expert = self._environment.expert(session.task, hints, seed)
        while not episode.done:
            prompt = episode.prompt(bank.retrieve_step([episode.query])[0] if bank and lesson.advice else ())
            action = expert.act(session.observation)
            episode.act(prompt, Decision(action, action, (), ()))
        return episode.trajectory()

    def task_text(self, task_id: str) -> str:
        """Returns the text of a task."""
        return start_session(self._environment, task_id)[0].task.text

    def rekey(self, task_id: str, drafts: Sequence[Draft]) -> tuple[Draft, ...]:
        """Returns drafts keyed to the start of a game, whatever they were written from."""
        session, _ = start_session(self._environment, task_id)
        task, first = session.task.text, session.observation.text
        keys = {"task": "", "step": first}
        return tuple(replace(d, task_text=task, observation=keys[d.granularity]) for d in drafts)

    def _bank(self, lesson: Lesson) -> SkillBank | None:
        """Returns a bank of the lesson's advice alone."""
        if not lesson.advice and not lesson.evidence:
            return None
        config = self._config
        bank = SkillBank(self.embedder, config.bank, config.retrieval, config.credit)
        bank.insert(self._guard.drafts(lesson.advice), iteration=0)
        bank.knowledge.consolidate(self._guard.evidence(lesson.evidence), iteration=0)
        return bank
