"""Many episodes at once: retrievals and decisions in batches, in lock step or as a policy has answers.

A policy with slots (see SupportsSlots) plays as many episodes as it has slots; when one ends, the next takes its slot,
and none waits for the slowest. Any other policy is asked for the decisions of all episodes, step by step.

Each decision is sampled with a seed of its own, derived from the run's seed, the iteration, the task, the member and
the step, so nothing depends on the order of a batch or on which episode ends first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

from d2skill.config import PromptConfig
from d2skill.episode import Episode, describe_fault
from d2skill.errors import D2SkillError, EnvironmentFault
from d2skill.protocols import Environment, Policy, Session, SkillSource, Slots, SupportsSlots
from d2skill.types import Arm, Decision, Group, Observation, Prompt, Retrieved, Task, Trajectory
from d2skill.utils.rng import derive


@dataclass(frozen=True, slots=True)
class Member:
    """An episode to play: its task, its arm, its index in the group, and the seed of its decisions.

    A member on `trial` is shown skills that are on trial as well.
    """

    task_id: str
    arm: Arm
    index: int
    seed: int
    trial: bool = False


@dataclass(slots=True)
class Timing:
    """Seconds spent on the parts of a rollout."""

    environment: float = 0.0
    retrieval: float = 0.0
    policy: float = 0.0


_NOTHING_SEEN = Observation("", done=True)


@dataclass(frozen=True, slots=True)
class _NotStarted:
    """A placeholder for a session that could not be started."""

    task: Task
    observation: Observation = _NOTHING_SEEN

    def step(self, action: str) -> Observation:
        return self.observation


class LockStep:
    """Slots of a policy without `SupportsSlots`: one call of `Policy.act` decides for all episodes."""

    def __init__(self, policy: Policy, temperature: float, size: int) -> None:
        self.capacity = size
        self._policy, self._temperature = policy, temperature
        self._asked: list[tuple[int, Prompt, int]] = []

    def submit(self, episode: int, prompt: Prompt, seed: int) -> None:
        """See Slots."""
        self._asked.append((episode, prompt, seed))

    def collect(self) -> list[tuple[int, Decision]]:
        """See Slots. Returns all that were submitted."""
        episodes, prompts, seeds = zip(*self._asked, strict=True)
        self._asked.clear()
        return list(zip(episodes, self._policy.act(prompts, seeds, self._temperature), strict=True))

    def release(self, episode: int) -> None:
        """See Slots."""

    def close(self) -> None:
        """See Slots."""


def half_of(index: int, with_skills: int, on_trial: int) -> tuple[Arm, bool]:
    """Returns the arm of a member of a group, and True if skills on trial are shown to it.

    The first `with_skills` members have skills, the last `on_trial` of them those on trial as well.
    """
    return ("skills" if index < with_skills else "none"), with_skills - on_trial <= index < with_skills


def start_session(environment: Environment, task_id: str) -> tuple[Session, str]:
    """Returns a new session and no fault, or where the environment fails to start it, one that is over and the fault.

    Data that a user has to mend is no such fault and stops the run.
    """
    try:
        return environment.start(task_id), ""
    except Exception as error:
        if isinstance(error, D2SkillError) and not isinstance(error, EnvironmentFault):
            raise
        return _NotStarted(Task(task_id, "", "")), describe_fault(error)


def require_played(episodes: Sequence[tuple[str, str]]) -> None:
    """Raises `D2SkillError` when every episode, given by task and fault, ended in a fault of the environment."""
    if episodes and all(fault for _, fault in episodes):
        task, fault = episodes[0]
        raise D2SkillError(
            f"the environment failed in all of {len(episodes)} episodes, first in task {task}: {fault}; try "
            "`d2skill check-env` on it"
        )


class Rollouts:
    """Plays episodes of one environment with one policy and one source of skills, in batches."""

    def __init__(
        self, environment: Environment, policy: Policy, bank: SkillSource, prompt: PromptConfig, max_steps: int
    ) -> None:
        """Plays nothing yet.

        Args:
            environment: Where episodes are played.
            policy: Decides; with `SupportsSlots` it decides asynchronously.
            bank: The skill bank, or a view of it.
            prompt: Length of the history and token budget of prompts.
            max_steps: Decisions after which an episode ends without success.
        """
        self.environment = environment
        self.policy = policy
        self.bank = bank
        self.timing = Timing()
        self._prompt = prompt
        self._max_steps = max_steps

    def groups(
        self,
        task_ids: Sequence[str],
        *,
        group_size: int,
        with_skills: int,
        temperature: float,
        seed: int,
        on_trial: int = 0,
    ) -> list[Group]:
        """Plays each task `group_size` times, each member in its arm (see half_of), and returns one group per task.

        Args:
            task_ids: Tasks of the iteration.
            group_size: N, episodes of each task.
            with_skills: Members of a group that are shown skills.
            temperature: Sampling temperature.
            seed: Seed of the iteration; each decision derives its own.
            on_trial: Members of the skill half that are shown skills on trial as well.
        """
        arms = [half_of(i, with_skills, on_trial) for i in range(group_size)]
        members = [
            Member(task_id, arm, i, derive(seed, task_id, i), trial)
            for task_id in task_ids
            for i, (arm, trial) in enumerate(arms)
        ]
        played = self.play(members, temperature)
        chunks = [tuple(played[i : i + group_size]) for i in range(0, len(played), group_size)]
        return [Group(next((t.task for t in chunk if t.turns), chunk[0].task), chunk) for chunk in chunks]

    def play(self, members: Sequence[Member], temperature: float) -> list[Trajectory]:
        """Plays all members together and returns their trajectories in the order given.

        Raises `D2SkillError` when every episode ended in a fault of the environment.
        """
        trajectories = self.play_shard(members, temperature)
        require_played([(t.task.id, t.fault) for t in trajectories])
        return trajectories

    def play_shard(self, members: Sequence[Member], temperature: float) -> list[Trajectory]:
        """Plays members as `play` does; a share of those may all end in a fault."""
        started = perf_counter()
        episodes = [self._start(member) for member in members]
        self.timing.environment += perf_counter() - started
        self._advise(episodes, members)
        with closing(self._slots(temperature, len(members))) as slots:
            self._play(episodes, members, slots)
        return [episode.trajectory() for episode in episodes]

    def _start(self, member: Member) -> Episode:
        session, fault = start_session(self.environment, member.task_id)
        return Episode(
            session,
            fault=fault,
            arm=member.arm,
            index=member.index,
            max_steps=self._max_steps,
            settings=self._prompt,
            count_tokens=self.policy.count_tokens,
        )

    def _advise(self, episodes: Sequence[Episode], members: Sequence[Member]) -> None:
        """Gives episodes of the skill half what they are shown from the start: advice, or the paper's task skills."""
        started = perf_counter()
        for trial in (False, True):
            own = [e for e, m in zip(episodes, members, strict=True) if m.arm == "skills" and m.trial == trial]
            if self.bank.consolidated:
                for episode, advice in zip(own, self.bank.advise([e.start for e in own], trial=trial), strict=True):
                    episode.advise(*advice)
            else:
                found = self.bank.retrieve_task([episode.task.text for episode in own], trial=trial)
                for episode, retrieved in zip(own, found, strict=True):
                    episode.task_skills = retrieved
        self.timing.retrieval += perf_counter() - started

    def _slots(self, temperature: float, episodes: int) -> Slots:
        if isinstance(self.policy, SupportsSlots):
            return self.policy.slots(temperature)
        return LockStep(self.policy, temperature, episodes)

    def _play(self, episodes: Sequence[Episode], members: Sequence[Member], slots: Slots) -> None:
        waiting = deque(i for i, episode in enumerate(episodes) if not episode.done)
        prompts: dict[int, Prompt] = {}
        turn: list[int] = []
        while waiting or turn or prompts:
            while waiting and len(prompts) + len(turn) < slots.capacity:
                turn.append(waiting.popleft())
            asked = self._prompts([episodes[i] for i in turn], [members[i] for i in turn])
            started = perf_counter()
            for i, prompt in zip(turn, asked, strict=True):
                slots.submit(i, prompt, derive(members[i].seed, episodes[i].step))
                prompts[i] = prompt
            answers = slots.collect()
            decided = perf_counter()
            turn = []
            for i, decision in answers:
                episodes[i].act(prompts.pop(i), decision)
                if episodes[i].done:
                    slots.release(i)
                else:
                    turn.append(i)
            self.timing.policy += decided - started
            self.timing.environment += perf_counter() - decided

    def _prompts(self, episodes: Sequence[Episode], members: Sequence[Member]) -> list[Prompt]:
        """Returns the next prompt of some episodes, each with the step skills for its observation."""
        if self.bank.consolidated:
            return [episode.prompt() for episode in episodes]
        started = perf_counter()
        step_skills: dict[int, tuple[Retrieved, ...]] = {}
        for trial in (False, True):
            own = [i for i, member in enumerate(members) if member.arm == "skills" and member.trial == trial]
            step_skills |= zip(own, self.bank.retrieve_step([episodes[i].query for i in own], trial=trial), strict=True)
        self.timing.retrieval += perf_counter() - started
        return [episode.prompt(step_skills.get(i, ())) for i, episode in enumerate(episodes)]
