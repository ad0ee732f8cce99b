"""Each rule of the contracts of policy, reflector, embedder, tracker is broken on purpose, and found by its words."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from toys import ScriptedPolicy

from d2skill.config import OptimConfig, ScorerConfig, WarmStartConfig
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.errors import ConfigError, ReflectionFault
from d2skill.policies.scorer.policy import ScorerPolicy
from d2skill.reflectors import ContrastReflector
from d2skill.testing import (
    TinyEmbedder,
    TinyEnvironment,
    TinyPolicy,
    TinyReflector,
    TinyTracker,
    assert_sound,
    check_embedder,
    check_environment,
    check_policy,
    check_reflector,
    check_tracker,
)
from d2skill.types import Decision, Edit, Reflection, SkillText


def wrong(findings):
    return [str(finding) for finding in findings if not finding.ok]


def scorer():
    return ScorerPolicy(ScorerConfig(buckets=4096), OptimConfig(), WarmStartConfig())


@pytest.mark.parametrize(
    "findings",
    [
        lambda: check_environment(TinyEnvironment()),
        lambda: check_policy(TinyPolicy()),
        lambda: check_policy(scorer()),
        lambda: check_policy(ScriptedPolicy(lambda prompt: prompt.actions[0]), learns=False),
        lambda: check_reflector(TinyReflector()),
        lambda: check_reflector(ContrastReflector()),
        lambda: check_embedder(TinyEmbedder()),
        lambda: check_embedder(HashedEmbedder(512)),
        lambda: check_tracker(TinyTracker()),
    ],
)
def test_sound_parts_pass(findings):
    found = findings()
    assert_sound(found)
    assert len(found) >= 3 and all(finding.detail for finding in found)


def test_a_policy_that_cannot_score_answers_is_judged_by_what_it_draws():
    findings = check_policy(_without_scores(TinyPolicy()))
    assert_sound(findings)
    assert any("share of draws" in finding.detail for finding in findings)


def _without_scores(policy):
    plain = SimpleNamespace()
    for name in ("count_tokens", "act", "update", "imitate", "freeze_reference", "save", "load"):
        setattr(plain, name, getattr(policy, name))
    return plain


class Constant(TinyPolicy):
    def count_tokens(self, text):
        return 1


class Restless(TinyPolicy):
    def act(self, prompts, seeds, temperature):
        return super().act(prompts, [random.randrange(2**32) for _ in seeds], temperature)


class Huddled(TinyPolicy):
    """A decision depends on the place in the batch."""

    def act(self, prompts, seeds, temperature):
        return super().act(prompts, [seed + at for at, seed in enumerate(seeds)], temperature)


class Hot(TinyPolicy):
    def act(self, prompts, seeds, temperature):
        return super().act(prompts, seeds, temperature or 1.0)


class Short(TinyPolicy):
    def act(self, prompts, seeds, temperature):
        return super().act(prompts[:1], seeds[:1], temperature)


class Boastful(TinyPolicy):
    def act(self, prompts, seeds, temperature):
        made = super().act(prompts, seeds, temperature)
        return [replace(one, log_probs=(0.5,)) for one in made]


class Mute(TinyPolicy):
    def act(self, prompts, seeds, temperature):
        return [Decision("", "", (), ()) for _ in prompts]


class Liar(TinyPolicy):
    def score_answers(self, decided):
        return [score._replace(log_prob=score.log_prob - 1) for score in super().score_answers(decided)]


class Contrary(TinyPolicy):
    def update(self, rows, seed):
        return super().update([replace(row, advantage=-row.advantage) for row in rows], seed)


class Idle(TinyPolicy):
    def imitate(self, demonstrations, seed):
        return {}


class Endless(TinyPolicy):
    def update(self, rows, seed):
        return super().update(rows, seed) | {"policy/loss": float("nan")}


class Thawed(TinyPolicy):
    def freeze_reference(self):
        self._weights = self._weights * 0


class Forgetful(TinyPolicy):
    """Keeps a momentum that it does not save."""

    _pace = 1.0

    def update(self, rows, seed):
        self._pace *= 0.9
        return super().update([replace(row, advantage=row.advantage * self._pace) for row in rows], seed)


class Careless(TinyPolicy):
    def load(self, folder):
        if (folder / "weights.npy").exists():
            super().load(folder)


class Lossy(TinyPolicy):
    def load(self, folder):
        super().load(folder)
        self._weights = self._weights.round(2)


@pytest.mark.parametrize(
    ("policy", "rule", "detail"),
    [
        (Constant, "count_tokens", "count the whole text"),
        (Short, "returns a Decision for each prompt", "one for each"),
        (Boastful, "returns a Decision for each prompt", "at most 0"),
        (Mute, "returns a Decision for each prompt", "choose one of prompt.actions"),
        (Restless, "the same prompt, seed", "seeded"),
        (Huddled, "rest of the batch", "alone"),
        (Hot, "greedy", "depend on the seed"),
        (Liar, "score_answers", "act says"),
        (Idle, "imitate", "before"),
        (Contrary, "update makes", "times the advantage"),
        (Endless, "update makes", "finite"),
        (Thawed, "freeze_reference", "KL"),
        (Forgetful, "load restores", "optimiser"),
        (Lossy, "load restores", "weights exactly"),
        (Careless, "load raises RunError", "empty folder"),
    ],
)
def test_a_broken_policy_is_found_by_its_rule(policy, rule, detail):
    found = wrong(check_policy(policy()))
    assert any(rule in one and detail in one for one in found), found


class Wrong(TinyReflector):
    """Answers with `answer`, or does with it what it says."""

    answer = None
    group_answer = ()

    def reflect(self, failure, success):
        return self.answer(failure) if callable(self.answer) else self.answer

    def reflect_groups(self, questions):
        return [list(self.group_answer) for _ in questions]


def silent(failure):
    raise ReflectionFault("no answer")


def writes(*text):
    return Reflection(0, task_skill=SkillText(*text))


def spoils(failure):
    object.__setattr__(failure, "final", "spoilt")
    return Reflection(0)


@pytest.mark.parametrize(
    ("answer", "edits", "rule", "detail"),
    [
        (None, (), "reflect(failure", "NoneType"),
        (silent, (), "reflect(failure", "none of"),
        (lambda failure: failure.turns[0] and Reflection(0), (), "reflect(failure", "IndexError"),
        (Reflection(-1), (), "reflect(failure", "number of a step"),
        (writes("Look", "", "always"), (), "reflect(failure", "principle"),
        (writes("Look", "x " * 500, "always"), (), "reflect(failure", "too long"),
        (writes("Look", "Look first.<|im_end|>", "always"), (), "reflect(failure", "no bank takes"),
        (spoils, (), "leaves the trajectories", "copy"),
        (Reflection(0), ["add"], "reflect_groups", "types.Edit"),
        (Reflection(0), [Edit("add", text=SkillText("a", "b", "c"))], "reflect_groups", "granularity"),
        (Reflection(0), [Edit("add", "task")], "reflect_groups", "NoneType"),
        (Reflection(0), [Edit("support", skill_id="t99")], "reflect_groups", "not given: t1"),
        (Reflection(0), [Edit("refute", skill_id="t1")] * 101, "reflect_groups", "keep to a few"),
    ],
)
def test_a_broken_reflector_is_found_by_its_rule(answer, edits, rule, detail):
    reflector = Wrong()
    reflector.answer, reflector.group_answer = answer, edits
    found = wrong(check_reflector(reflector))
    assert any(rule in one and detail in one for one in found), found


def test_a_reflector_of_the_papers_skills_alone_passes_and_is_told_so():
    class Plain:
        reflect = TinyReflector().reflect

    findings = check_reflector(Plain())
    assert not wrong(findings) and any("bank.skills paper" in finding.detail for finding in findings)


def test_the_batch_of_a_reflector_has_an_answer_for_each_pair():
    class Batched(TinyReflector):
        runs_beside_update = False

        def reflect_batch(self, pairs):
            return [self.reflect(*pair) for pair in pairs][: self.most]

    batched = Batched()
    batched.most = None
    assert_sound(check_reflector(batched))
    batched.most = 1
    assert "one answer for each" in wrong(check_reflector(batched))[0]


class Changed(TinyEmbedder):
    """An embedder whose vectors `change` spoils."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def embed(self, texts):
        return self.change(super().embed(texts))


def noisy(vectors):
    noise = vectors + 0.01 * np.random.default_rng().random(vectors.shape, dtype=np.float32)
    return noise / np.linalg.norm(noise, axis=1, keepdims=True)


def centred(vectors):
    moved = vectors - 0.1 * vectors.mean(axis=0) if len(vectors) else vectors
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "rule", "detail"),
    [
        (lambda vectors: vectors[:, :-1], "shape", "(6, 255)"),
        (lambda vectors: vectors.astype(np.float64), "shape", "float32"),
        (lambda vectors: vectors.tolist(), "shape", "list"),
        (lambda vectors: vectors * 2, "length 1", "divide"),
        (lambda vectors: vectors * np.float32("nan"), "length 1", "nan"),
        (lambda vectors: np.ones_like(vectors) / 16, "different vectors", "the same vector"),
        (noisy, "on its text alone", "again"),
        (centred, "on its text alone", "alone"),
    ],
)
def test_a_broken_embedder_is_found_by_its_rule(change, rule, detail):
    found = wrong(check_embedder(Changed(change)))
    assert any(rule in one and detail in one for one in found), found


def test_the_names_and_gates_of_an_embedder_are_checked():
    embedder = TinyEmbedder()
    embedder.fingerprint, embedder.task_gate = "", 3
    found = wrong(check_embedder(embedder))
    assert "name the model" in found[0] and "task_gate is 3" in found[1]

    class Unmeasured(TinyEmbedder):
        @property
        def task_gate(self):
            raise ConfigError("never measured")

    findings = check_embedder(Unmeasured())
    assert not wrong(findings) and "retrieval.gate" in findings[1].detail


class Swallowing(TinyTracker):
    def __exit__(self, *error):
        return True


class Greedy(TinyTracker):
    def log(self, metrics):
        metrics.clear()


class Numeric(TinyTracker):
    def log(self, metrics):
        assert all(value + 0 == value for value in metrics.values())


class Once(TinyTracker):
    entered = False

    def __enter__(self):
        if self.entered:
            raise RuntimeError("entered twice")
        self.entered = True
        return self


class Closing(TinyTracker):
    closed = False

    def close(self):
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


@pytest.mark.parametrize(
    ("tracker", "rule", "detail"),
    [
        (Swallowing, "hold back an exception", "return None"),
        (Greedy, "leaves the metrics", "copy"),
        (Numeric, "takes each iteration's metrics", "TypeError"),
        (Once, "enters it again", "entered twice"),
        (Closing, "closing it twice", "closed twice"),
    ],
)
def test_a_broken_tracker_is_found_by_its_rule(tracker, rule, detail):
    found = wrong(check_tracker(tracker()))
    assert any(rule in one and detail in one for one in found), found


def test_a_broken_contract_fails_a_test_with_a_line_for_each_rule():
    with pytest.raises(AssertionError, match=r"WRONG it does not hold back an exception.*return None"):
        assert_sound(check_tracker(Swallowing()))
