"""The paper's method in one file: a policy and its bank of task and step skills learn together in generated houses.

Read it from top to bottom. Down to `train`, about 300 lines, it is the method, with the equations of the paper (arXiv
2603.28716). Then comes what stands in for large models, so that a run takes minutes: an embedder, a reflector and a
warm start. Only the environment and the features of the scorer policy are imported from d2skill. A test finds the
same credits, utilities, advantages and retrievals as in `d2skill train --skills paper` with these settings. To run it:

    python examples/single_file.py --iterations 10 --seed 0

It leaves out what changes nothing in such a run. The package has
1. run folders, checkpoints, metrics, and the bank as a journal on disk in runs/, trackers/ and bank/journal/
2. language models, other environments and reflectors, actions such as `click[next >]` in policies/, envs/, reflectors/
3. faults of an environment, actions that are not admissible, and the token budget of prompts in episode.py, prompts.py
4. the cleaning of skill texts, which those written below do not need, in bank/safety/
5. trials, retirement and merging of skills, and other measures of their worth, all off by default, in bank/;
   probes, which only measure, in evaluation/
6. blocks and caches for banks of 10^5 skills in bank/, and several processes in data_parallel.py
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import tyro

from d2skill.config import EnvConfig
from d2skill.envs import make_environment
from d2skill.policies.scorer.features import Featurizer, Prompt
from d2skill.utils.text import action_words, content, entities

# ---- Settings: the defaults of `d2skill train --skills paper` --------------------------------------------------------
K, CANDIDATES, ALPHA, ETA = 3, 10, 0.1, 0.05  # Eq. 8: k, skills of a kind in a prompt; m, α, η
GATES = {"task": 0.27, "step": 0.61}  # Eq. 8: τ_sim, which belongs to the embedder
BETA, INTRINSIC, SUCCESS = 0.5, 1.0, 10.0  # Eq. 3: β; Eq. 4: λ, and the reward of a success
CLIP, KL, BUCKETS = 0.2, 0.01, 2**18  # Eq. 6: ε, β; number of the policy's weights
UPDATE, IMITATION, EPOCHS = (128, 0.01), (32, 0.02), 2  # decisions in an Adam step, and its size; passes of imitation
THRESHOLD, REFLECTIONS, DUPLICATE = 0.5, 10, 0.95  # τ_ref, R, similarity from which two skills are the same
HISTORY, TEMPERATURE = 20, 0.4  # L, past (observation, action) pairs in a prompt; of validation, rollouts have 1
ADVISED, MISLED = 0.5, 0.3  # share of demonstrations with advice, and of advice on another game


@dataclass(frozen=True)
class Settings:
    """Trains a policy and its skill bank in generated houses; prints a line for each iteration."""

    seed: int = 0
    iterations: int = 160
    tasks: int = 16  # B, tasks in an iteration
    group_size: int = 8  # N, episodes of a task; the first half of them is shown skills
    warm_start_tasks: int = 200
    validate_every: int = 20  # V
    validation_tasks: int = 128
    capacity: int = 300  # skills in each pool
    protect: int = 10  # T_prot
    env: EnvConfig = field(default_factory=EnvConfig)


# ---- Randomness: every draw has a seed of its own, derived from what it is for ---------------------------------------
def hash64(text: str) -> int:
    """Returns 64 bits of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def derive(*parts: int | str) -> int:
    """Returns a seed from a path such as (seed, "iteration", 3)."""
    return hash64("\x1f".join(map(str, parts))) >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """Returns a NumPy generator from such a path."""
    return np.random.default_rng(derive(*parts))


# ---- Bank: two pools of skills in memory -----------------------------------------------------------------------------
class SkillText(NamedTuple):
    """All that reflection writes and the policy reads."""

    title: str
    principle: str
    when_to_apply: str


class Skill:
    """A note of a kind, "task" or "step", with utility u and retrieval count n."""

    def __init__(self, kind: str, text: SkillText, task: str, observation: str = "", created: int = 0) -> None:
        self.kind, self.text, self.task, self.observation, self.created = kind, text, task, observation, created
        self.key, self.statement, self.u, self.n = key(task, observation), f"{text.title}. {text.principle}", 0.0, 0


def key(task: str, observation: str = "") -> np.ndarray:
    """Returns the vector of a key or a query: k = g for task skills, k = (g, o) for step skills."""
    return unit(embed(task) + embed(observation)) if observation else embed(task)


def cosines(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Returns the cosines of unit vectors, to 6 decimals so that equal keys tie."""
    return np.rint((queries @ keys.T).astype(float) * 1e6) / 1e6


class Bank:
    """Both pools of skills, each in order of insertion."""

    def __init__(self) -> None:
        self.pools: dict[str, list[Skill]] = {"task": [], "step": []}

    def values(self, pool: list[Skill]) -> np.ndarray:
        """Returns the value of each skill in Eq. 8 and 9: u + η·sqrt(log(1 + N_r) / (1 + n)), N_r = Σn."""
        u, n = np.array([(skill.u, skill.n) for skill in pool]).T
        return u + ETA * np.sqrt(np.log1p(n.sum()) / (1 + n))

    def retrieve(self, kind: str, queries: Sequence[tuple[str, ...]]) -> list[tuple[Skill, ...]]:
        """Returns the skills to show for each query, (g,) or (g, o), best first."""
        pool, shown = self.pools[kind], dict.fromkeys(queries, ())
        if pool and queries:
            values, vectors = self.values(pool), np.stack([key(*query) for query in shown])
            for query, cosine in zip(shown, cosines(vectors, np.stack([skill.key for skill in pool])), strict=True):
                # Eq. 8: of the m most similar with cosine ≥ τ_sim, the best k by α·(1 + cosine)/2 + (1 − α)·value
                near = np.flatnonzero(cosine >= GATES[kind])
                near = near[np.argsort(-cosine[near], kind="stable")][:CANDIDATES]
                scores = ALPHA * (1 + cosine[near]) / 2 + (1 - ALPHA) * values[near]
                shown[query] = tuple(pool[i] for i in near[np.lexsort((near, -scores))[:K]])
        return [shown[query] for query in queries]

    def insert(self, new: Skill) -> None:
        """Adds a skill, unless one with a like key says the same; "drawer 3" and "drawer 4" are not the same."""
        numbers = sorted(re.findall(r"\d+", new.statement))
        for old in self.pools[new.kind]:
            alike = min(cosines(new.key, old.key), cosines(embed(new.statement), embed(old.statement)))
            if alike >= DUPLICATE and sorted(re.findall(r"\d+", old.statement)) == numbers:
                return
        self.pools[new.kind].append(new)

    def evict(self, t: int, capacity: int, protect: int) -> None:
        """Drops the lowest values of a pool over its capacity, but nothing with t − t_created < T_prot (Eq. 9)."""
        for kind, pool in self.pools.items():
            order = np.lexsort(([skill.created for skill in pool], self.values(pool))) if len(pool) > capacity else []
            dropped = {*[i for i in order if t - pool[i].created >= protect][: len(pool) - capacity]}
            self.pools[kind] = [skill for i, skill in enumerate(pool) if i not in dropped]


# ---- Policy: a softmax over the admissible actions, whose scores are sums of the weights of hashed features ----------
class Turn(NamedTuple):
    """A decision: the action, its number among the admissible ones, and its log-probability then."""

    prompt: Prompt
    action: str
    choice: int
    log_prob: float = 0.0


class Policy:
    """The weights, those of the reference policy, and Adam's two moments."""

    def __init__(self) -> None:
        self.featurize, self.weights = Featurizer(BUCKETS), np.zeros(BUCKETS)
        self.freeze_reference()

    def freeze_reference(self) -> None:
        """Makes the present policy the reference policy, and starts Adam anew."""
        self.reference, self.moments, self.steps = self.weights.copy(), np.zeros((2, BUCKETS)), 0

    def log_probs(self, batch: Any, weights: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Returns the log-probability of each action of each prompt, shape [actions]."""
        scores, counts = weights[batch.index].sum(axis=1) / temperature, batch.counts()
        scores -= np.repeat(np.maximum.reduceat(scores, batch.starts), counts)
        return scores - np.repeat(np.log(np.add.reduceat(np.exp(scores), batch.starts)), counts)

    def act(self, prompts: Sequence[Prompt], seeds: Sequence[int], temperature: float = 1.0) -> list[Turn]:
        """Samples an action for each prompt, by inverse transform of a uniform number from its seed."""
        batch, turns = self.featurize(prompts), []
        log_probs_of = np.split(self.log_probs(batch, self.weights, temperature), batch.starts[1:])
        for prompt, seed, log_probs in zip(prompts, seeds, log_probs_of, strict=True):
            sums = np.cumsum(np.exp(log_probs))
            choice = np.searchsorted(sums[:-1], seed % 2**53 / 2**53 * sums[-1], side="right")
            turns.append(Turn(prompt, prompt.actions[choice], choice, log_probs[choice]))
        return turns

    def update(self, turns: Sequence[Turn], order: np.ndarray, size: int, rate: float, advantages: Any = None) -> None:
        """Takes an Adam step on each minibatch of turns; without advantages it imitates them (loss = −log p)."""
        for rows in (order[at : at + size] for at in range(0, len(order), size)):
            batch = self.featurize([turns[i].prompt for i in rows])
            log_probs, chosen = self.log_probs(batch, self.weights), batch.starts + [turns[i].choice for i in rows]
            slope = np.full(len(rows), -1.0)  # d loss / d log p
            if advantages is not None:
                # Eq. 6: loss = −min(r·A, clip(r, 1 − ε, 1 + ε)·A) + β·(q/p − log(q/p) − 1), r = p/p_old, q = reference
                ratio = np.exp(log_probs[chosen] - [turns[i].log_prob for i in rows])
                gain, clipped = ratio * advantages[rows], np.clip(ratio, 1 - CLIP, 1 + CLIP) * advantages[rows]
                q_over_p = np.exp(self.log_probs(batch, self.reference)[chosen] - log_probs[chosen])
                slope = np.where(clipped < gain, 0.0, -gain) + KL * (1 - q_over_p)
            by_action = -np.repeat(slope / len(rows), batch.counts()) * np.exp(log_probs)
            by_action[chosen] += slope / len(rows)  # d log p / d score = 1(chosen) − p
            gradient = np.bincount(batch.index.ravel(), np.repeat(by_action, batch.index.shape[1]), BUCKETS)
            gradient[0] = 0.0  # the bucket of absent features
            gradient *= 1 / max(1.0, np.linalg.norm(gradient))
            self.steps += 1
            self.moments[0] += (1 - 0.9) * (gradient - self.moments[0])
            self.moments[1] += (1 - 0.999) * (gradient * gradient - self.moments[1])
            scale = rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
            self.weights -= scale * self.moments[0] / (np.sqrt(self.moments[1]) + 1e-8)


# ---- Paired rollouts: the N episodes of a task have the same policy and the same start, half of them with skills -----
class Episode:
    """A play of a task; `observation` is the present one."""

    def __init__(self, session: Any, with_skills: bool, seed: int = 0) -> None:
        self.session, self.task, self.observation = session, session.task, session.observation
        self.with_skills, self.seed, self.success = with_skills, seed, False
        self.task_skills, self.turns = (), []


def rollout(episodes: Sequence[Episode], act: Callable[..., list[Turn]], bank: Bank, max_steps: int) -> None:
    """Plays episodes together. Skills are retrieved for each decision, also the first; `act` makes the decisions."""
    half = [e for e in episodes if e.with_skills]
    for e, skills in zip(half, bank.retrieve("task", [(e.task.text,) for e in half]), strict=True):
        e.task_skills = skills
    while running := [e for e in episodes if not e.observation.done and len(e.turns) < max_steps]:
        half, prompts = [e for e in running if e.with_skills], []
        step_skills = iter(bank.retrieve("step", [(e.task.text, e.observation.text) for e in half]))
        for e in running:
            past = tuple((turn.prompt.observation, turn.action) for turn in e.turns[-HISTORY:])
            skills = next(step_skills) if e.with_skills else ()
            prompts.append(Prompt(e.task.text, e.observation.text, e.observation.actions, past, e.task_skills, skills))
        for e, turn in zip(running, act(prompts, [derive(e.seed, len(e.turns)) for e in running]), strict=True):
            e.turns.append(turn)
            e.observation = e.session.step(turn.action)
            e.success = e.observation.success


# ---- Hindsight: what the halves of a group say about skills and decisions --------------------------------------------
def hindsight(group: Sequence[Episode], signals: dict[Skill, list[float]]) -> np.ndarray:
    """Adds to the signals of the skills that were in a prompt; returns the advantage of each episode, shape [N]."""
    success, half = np.array([float(e.success) for e in group]), np.array([e.with_skills for e in group])
    # Eq. 1: Ȳ_skill and Ȳ_base, the mean success of each half
    skill_mean, base_mean = success[half].mean(), success[~half].mean()
    # Eq. 2: Δ_g = Ȳ_skill − Ȳ_base for a task skill, once a group; c_i = Y_i − Ȳ_base for a step skill, once an episode
    for skill in {skill for e in group for skill in e.task_skills}:
        signals[skill].append(skill_mean - base_mean)
    for e, gain in zip(group, success - base_mean, strict=True):
        for skill in {skill for turn in e.turns for skill in turn.prompt.step_skills}:
            signals[skill].append(gain)
    # Eq. 4: R̃ = R + λ(Y_i − Ȳ_base), the latter in the skill half only
    returns = SUCCESS * success + INTRINSIC * (success - base_mean) * half
    # Eq. 5: A = (R̃ − mean R̃) / std R̃ over both halves, the same for all decisions of an episode
    return (returns - returns.mean()) / (returns.std(ddof=1) + 1e-6)


# ---- Eq. 7: (j, step skill, task skill) = reflection on a failure and, if there is one, a success of its group -------
def reflect(groups: Sequence[Sequence[Episode]], iteration: int, seed: int) -> list[Skill]:
    """Reflects on at most R groups with Ȳ_skill < τ_ref: a failure with skills, and a success of either half."""
    weak = [group for group in groups if np.mean([e.success for e in group if e.with_skills]) < THRESHOLD]
    weak.sort(key=lambda group: group[0].task.id)
    if len(weak) > REFLECTIONS:
        drawn = generator(seed, "reflect", iteration).choice(len(weak), REFLECTIONS, replace=False)
        weak = [weak[i] for i in sorted(drawn)]
    skills = []
    for group in weak:
        rng = generator(seed, "reflect", iteration, group[0].task.id)
        failures, successes = [e for e in group if e.with_skills and not e.success], [e for e in group if e.success]
        failure = failures[rng.integers(len(failures))]
        skills += contrast(failure, successes[rng.integers(len(successes))] if successes else None, iteration)
    return skills


# ---- The run ---------------------------------------------------------------------------------------------------------
def train(settings: Settings) -> Iterator[tuple[Any, ...]]:
    """Yields (groups, signals, advantages, validation, policy, bank) after the warm start and after each iteration."""
    environment, max_steps, policy, bank = make_environment(settings.env), settings.env.max_steps, Policy(), Bank()
    panel = sorted(environment.task_ids(settings.env.validation_split), key=lambda task_id: derive("panel", task_id))
    panel = sorted(panel[: settings.validation_tasks])
    train_ids = [task_id for task_id in environment.task_ids(settings.env.train_split) if task_id not in {*panel}]

    def validate() -> list[float]:  # success on the panel with skills and without, from the same seeds
        seeds = {task_id: derive(settings.seed, "validate", task_id) for task_id in panel}
        arms = [[Episode(environment.start(i), arm, seeds[i]) for i in panel] for arm in (True, False)]
        rollout([*arms[0], *arms[1]], partial(policy.act, temperature=TEMPERATURE), bank, max_steps)
        return [float(np.mean([e.success for e in arm])) for arm in arms]

    turns = demonstrations(environment, settings, train_ids)
    for epoch in range(EPOCHS):
        rng = generator(derive(settings.seed, "imitate"), "imitate", epoch)
        policy.update(turns, rng.permutation(len(turns)), *IMITATION)
    policy.freeze_reference()
    yield [], {}, [], validate(), policy, bank

    for iteration in range(settings.iterations):
        seed, size = derive(settings.seed, "iteration", iteration), settings.group_size
        drawn = generator(seed, "tasks").choice(len(train_ids), min(settings.tasks, len(train_ids)), replace=False)

        # paired rollouts
        members = [(train_ids[i], member) for i in drawn for member in range(size)]
        episodes = [Episode(environment.start(i), m < size // 2, derive(seed, i, m)) for i, m in members]
        rollout(episodes, policy.act, bank, max_steps)
        groups = [episodes[at : at + size] for at in range(0, len(episodes), size)]

        # hindsight, and the policy's update
        signals: dict[Skill, list[float]] = defaultdict(list)
        advantages = [hindsight(group, signals) for group in groups]
        by_turn = np.repeat(np.concatenate(advantages), [len(e.turns) for e in episodes])
        turns = [turn for e in episodes for turn in e.turns]
        policy.update(turns, generator(seed, "update").permutation(len(turns)), *UPDATE, by_turn)

        # the bank's update: retrieval counts, utilities, new skills, which are seen from the next iteration on
        for e in episodes:
            for skill in (*e.task_skills, *(skill for turn in e.turns for skill in turn.prompt.step_skills)):
                skill.n += 1  # a task skill once an episode, a step skill at every step
        for skill, values in signals.items():
            # Eq. 3: u ← (1 − β)u + β·signal; for several signals the mean over all their orders, for none comes first
            kept = (1 - BETA) ** len(values)
            skill.u = kept * skill.u + (1 - kept) * (math.fsum(values) / len(values))
        for skill in reflect(groups, iteration, seed):
            bank.insert(skill)

        # validation, and eviction after it
        validation, last = None, iteration + 1 == settings.iterations
        if last or (iteration + 1) % settings.validate_every == 0:
            validation = validate()
            bank.evict(iteration, settings.capacity, settings.protect)
        yield groups, signals, advantages, validation, policy, bank


# ---- Embedder: words, pairs of words and the text as a whole, hashed to signed buckets -------------------------------
DIMENSION, IDENTITY = 512, 0.35  # the latter is the share of the text as a whole
COMMON = frozenset("find get clean heat cool hot cold look examine two three one new".split())
STOP_WORDS = frozenset(
    "a all an and any are as at be been but by can do does for from had has have i if in into is it its me my no nor "
    "of off on or our out please put see seen so some such than that the their them then there these they this task "
    "those to too up us was we were what when where which while who will with would you your".split()
)


@lru_cache(maxsize=1 << 14)
def embed(text: str) -> np.ndarray:
    """Returns the unit vector of a text, shape [DIMENSION]."""
    counts: Counter[str] = Counter()
    for clause in re.split(r"[.,:;!?()\[\]\n]+", text.lower()):
        previous = ""
        for word in (word for word in re.findall(r"[^\W_]+", clause) if word not in STOP_WORDS):
            if previous:
                counts[f"{previous} {word}"] += 1
            previous = "" if word.isdecimal() else word
            if previous:  # a number counts only beside the word before it, as in "drawer 4"
                counts[word] += 1
    emphasis = [(0.3 if COMMON & {*each.split()} else 1.0) * (0.5 if " " in each else 1.0) for each in counts]
    words = hashed([*counts], (1 + np.log([*counts.values()])) * emphasis)
    whole = hashed([f"{mark}\x1f{' '.join(sorted(counts))}" for mark in range(8)], np.ones(8))
    return unit(np.sqrt(1 - IDENTITY) * words + np.sqrt(IDENTITY) * whole).astype(np.float32)


def hashed(features: list[str], weights: np.ndarray) -> np.ndarray:
    """Returns the unit vector of weighted features."""
    hashes = np.array([hash64(feature) for feature in features], np.uint64)
    buckets, signed = hashes % np.uint64(DIMENSION), np.where(hashes >> np.uint64(63), weights, -weights)
    return unit(np.bincount(buckets.astype(int), signed, DIMENSION))


def unit(vector: np.ndarray) -> np.ndarray:
    """Returns a vector at length 1."""
    return vector / np.sqrt(vector @ vector)


# ---- A reflector without a model: it compares the actions of a failure with those of a success -----------------------
def contrast(failure: Episode, success: Episode | None, iteration: int = 0) -> list[Skill]:
    """Writes skills without a model: of the actions that led a success to its end, the first that a failure lacks."""
    task, turns, played = failure.task.text, failure.turns, [turn.action for turn in failure.turns]
    if success is None:
        j, text = contrast_without_success(task, turns)
        return [Skill("step", text, task, turns[j].prompt.observation, iteration)] if text else []
    # steps of the success: the last, those that use a thing of the task on another, and those that made steps possible
    good, essential = success.turns, set()  # essential: numbers of turns
    waiting = [len(good) - 1, *(i for i, turn in enumerate(good) if advances(turn.action, task))]
    while waiting:
        essential.add(at := waiting.pop())
        waiting += [i for i in range(at) if good[at].action not in good[i].prompt.actions][-1:]
    steps = [action for action, _ in groupby(good[i].action for i in sorted(essential))][-12:]
    # the first step that the failure has not done, and j, the earliest time at which it could have
    done = j = 0
    while done < len(steps) and steps[done] in played[j:]:
        done, j = done + 1, played.index(steps[done], j) + 1
    missing, j = steps[min(done, len(steps) - 1) :], min(j, len(turns) - 1)
    j = next((i for i in range(j, len(turns)) if missing[0] in turns[i].prompt.actions), j)
    plan = [step for step, _ in groupby(without_numbers(step, step) for step in steps)]
    task_text = SkillText(f"{task}: {plan[0]}", f"{', then '.join(plan)}.".capitalize(), f"the task is to {task}")
    step = Skill("step", step_advice(missing, task), task, turns[j].prompt.observation, iteration)
    return [Skill("task", task_text, task, "", iteration), step]


def contrast_without_success(task: str, turns: Sequence[Turn]) -> tuple[int, SkillText | None]:
    """Returns j and what would have served the task there but was never played, else where its thing is not."""
    played, things = {turn.action for turn in turns}, content(task)
    begun = next((j for j, turn in enumerate(turns) if advances(turn.action, task)), len(turns))
    changes = [now for now, then in pairwise(turns) if {*now.prompt.actions} != {*then.prompt.actions}]
    verbs = {action_words(turn.action).verb for turn in changes}
    for j, turn in enumerate(turns):
        for action in (action for action in turn.prompt.actions if action not in played):
            words = action_words(action)
            serves = words.verb in verbs and words.entities and things.issuperset(e.kind for e in words.entities)
            if (j < begun and advances(action, task)) or (j > begun and serves):
                return j, step_advice([action], task)
    known = set("find get put place two three hot cold cool warm clean new some".split())
    known.update(*(content(text) for turn in turns for text in (turn.prompt.observation, *turn.prompt.actions)))
    known.update(action_words(action).verb for turn in turns for action in turn.prompt.actions)
    goal = " ".join(e.kind for e in entities(task) if e.kind not in known)
    places = ", ".join(dict.fromkeys(e.name for turn in turns for e in action_words(turn.action).entities))
    if begun < len(turns) or not goal or not places:
        return 0, None
    principle = f"Look for {goal} in places that were not tried yet. It is not in {places}."
    return 0, SkillText(f"{goal}: not where it was sought", principle, f"the task needs {goal} and it is not in sight")


def advances(action: str, task: str) -> bool:
    """Tells whether an action uses a thing of the task on something else: take mug 1 from desk 2."""
    used = action_words(action).entities
    return len(used) > 1 and used[0].kind in content(task)


def step_advice(steps: Sequence[str], task: str) -> SkillText:
    """Returns a step skill; it names things of the task by type, and places by number."""
    things = [e.kind for step in steps for e in action_words(step).entities if e.kind in content(task)]
    goal, plan = (things or [" ".join(sorted(content(task)))])[0], [without_numbers(step, task) for step in steps[:3]]
    principle = f"{', then '.join(plan)}.".capitalize()
    return SkillText(f"{goal}: {plan[0]}", principle, f"the task needs {goal} and you can {plan[0]}")


def without_numbers(action: str, text: str) -> str:
    """Returns an action without the numbers of the things that a text names."""
    return re.sub(r"\b(\w+) \d+\b", lambda thing: thing[1 if thing[1] in content(text) else 0], action)


# ---- Warm start: imitation of the environment's expert, which searches as an agent must, and first where skills say --
def demonstrate(environment: Any, max_steps: int, task_id: str, skills: Sequence[Skill], *seed: int | str) -> Episode:
    """Returns an episode of the expert, whose prompts show some skills as far as they are retrieved."""
    episode, bank = Episode(environment.start(task_id), with_skills=True), Bank()
    bank.pools = {kind: [skill for skill in skills if skill.kind == kind] for kind in bank.pools}
    hints = [f"{s.text.title}: {s.text.principle} Apply when: {s.text.when_to_apply}" for s in skills]
    expert = environment.expert(episode.task, hints, derive(*seed))

    def act(prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Turn]:
        action = expert.act(episode.observation)
        return [Turn(prompts[0], action, prompts[0].actions.index(action))]

    rollout([episode], act, bank, max_steps)
    return episode


def demonstrations(environment: Any, settings: Settings, train_ids: Sequence[str]) -> list[Turn]:
    """Returns the decisions of successes. Half of the games are advised, some of them for the most similar game."""
    seed, max_steps, rng = settings.seed, settings.env.max_steps, generator(settings.seed, "warm-start")
    chosen = [train_ids[i] for i in rng.permutation(len(train_ids))[: settings.warm_start_tasks]]
    lessons: dict[str, list[Skill]] = {}
    for task_id in chosen:  # a reflection on a success, beside another episode that is cut off half way
        success = demonstrate(environment, max_steps, task_id, (), seed, "success", task_id)
        if success.success and len(success.turns) > 1:
            failure = demonstrate(environment, max_steps, task_id, (), seed, "failure", task_id)
            failure.turns = failure.turns[: max(1, len(failure.turns) // 2)]
            lessons[task_id] = contrast(failure, success)
    turns = []
    for number, task_id in enumerate(chosen):
        advised, misled, skills = rng.random() < ADVISED, rng.random() < MISLED, lessons.get(task_id, [])
        if misled:
            start, others = environment.start(task_id), [lessons[other] for other in lessons if other != task_id]
            task, first = start.task.text, {"task": "", "step": start.observation.text}
            similar = np.array([embed(skills[0].task) for skills in others]) @ embed(task) if others else []
            most_similar = others[np.argmax(similar)] if others else []
            skills = [Skill(skill.kind, skill.text, task, first[skill.kind]) for skill in most_similar]
        episode = demonstrate(environment, max_steps, task_id, skills if advised else (), seed, "lesson", number)
        turns += episode.turns if episode.success else []
    return turns


if __name__ == "__main__":
    for number, (groups, _, _, validation, _, bank) in enumerate(train(tyro.cli(Settings))):
        parts = [f"iteration {number}", *(f"{len(pool)} {kind} skills" for kind, pool in bank.pools.items())]
        if groups:
            halves = np.array([[e.success for e in group] for group in groups]).mean(axis=0).reshape(2, -1)
            parts.append("rollouts {:.2f} with skills, {:.2f} without".format(*halves.mean(axis=1)))
        if validation:
            parts.append("validation {:.3f} with skills, {:.3f} without".format(*validation))
        print("; ".join(parts), flush=True)
