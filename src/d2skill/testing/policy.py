"""Contract of a policy as rules that run on any.

A run is repeated by its seed and resumed from a checkpoint, and its members are compared with each other. That is sound
only if a decision depends on its prompt, seed and temperature alone, and if `load` restores all that learning needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from d2skill.errors import RunError
from d2skill.protocols import Policy, SupportsScoring
from d2skill.testing.rules import Finding, RuleViolation, findings_of, require, rule
from d2skill.testing.samples import sample_prompts
from d2skill.types import Decision, Prompt, Row
from d2skill.utils.text import short

_SEEDS = 32  # decisions at a prompt from which a probability is told, for a policy that cannot score answers
_PASSES = 20  # passes of learning in which it has to show
_TOLERANCE = 1e-4  # rounding of log-probabilities, which may depend on the batch


def check_policy(policy: Policy, prompts: Sequence[Prompt] = (), *, learns: bool = True) -> list[Finding]:
    """Checks the contract of `Policy`, and of `SupportsScoring` if it has that; the policy has learnt a bit afterwards.

    >>> from d2skill.testing import TinyPolicy, check_policy
    >>> all(finding.ok for finding in check_policy(TinyPolicy()))
    True

    Args:
        policy: The policy to check; sound if all findings are ok.
        prompts: Prompts to decide on, with two actions at least; without them those of a tiny environment.
        learns: Whether it is meant to learn. If not, the rules of learning are left out.

    Returns:
        The findings of the rules, up to the first stage in which one is broken.
    """
    checks = _Checks(policy, prompts or sample_prompts())
    stages: list[list[Callable[[], Finding]]] = [
        [checks.counts, checks.decides],
        [checks.repeats, checks.alone, checks.greedy],
        [checks.scores] if isinstance(policy, SupportsScoring) else [],
    ]
    if learns:
        stages += [[checks.imitates, checks.freezes], [checks.updates], [checks.restores, checks.refuses]]
    return findings_of(stages)


class _Checks:
    """The rules, and the prompts that the policy decides on."""

    def __init__(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        self._policy = policy
        self._prompts = list(prompts)
        self._seeds = [101 + 7 * number for number in range(len(prompts))]

    @rule("count_tokens(text) returns the number of tokens, more for more text")
    def counts(self) -> str:
        none, one, many = (self._policy.count_tokens(text) for text in ("", "open box 1", "open box 1 " * 50))
        numbers = all(isinstance(count, int) and count >= 0 for count in (none, one, many))
        require(numbers, f"it returned {none!r}, {one!r} and {many!r}: return an int that is not negative")
        require(none <= one < many, f"one text has {one} tokens, fifty times the same {many}: count the whole text")
        return f"{one} tokens in 'open box 1'"

    @rule("act returns a Decision for each prompt, with the log-probability of each token")
    def decides(self) -> str:
        decisions = self._act()
        for prompt, made in zip(self._prompts, decisions, strict=True):
            require(isinstance(made, Decision), f"it returned a {type(made).__name__}: return d2skill.types.Decision")
            require(isinstance(made.action, str), f"action is {made.action!r}: make it a text, '' if there is none")
            tokens, log_probs = made.tokens, made.log_probs
            tuples = isinstance(tokens, tuple) and isinstance(log_probs, tuple) and len(tokens) == len(log_probs)
            require(tuples, f"tokens {short(tokens)}, log_probs {short(log_probs)}: make them tuples of one length")
            sound = all(math.isfinite(value) and value <= _TOLERANCE for value in log_probs)
            require(sound, f"log_probs are {short(log_probs)}: they are logarithms of probabilities, at most 0")
            require(made.tokens or made.action not in prompt.actions, f"{made.action!r} has no tokens to learn from")
        admissible = sum(made.action in prompt.actions for prompt, made in zip(self._prompts, decisions, strict=True))
        require(admissible, "no decision is an action of its prompt: choose one of prompt.actions")
        require(self._policy.act([], [], 1.0) == [], "act([], [], 1.0) is not []: a batch may be empty")
        return f"{admissible} of {len(decisions)} decisions are admissible actions"

    @rule("the same prompt, seed and temperature give the same decision")
    def repeats(self) -> str:
        way_out = "draw from a generator that is seeded with the decision's own seed"
        require(self._same(self._act(), self._act()), f"two calls differ: {way_out}")
        return f"{len(self._prompts)} decisions agree"

    @rule("a decision does not depend on the rest of the batch")
    def alone(self) -> str:
        together = self._act()
        alone = [self._policy.act([p], [seed], 1.0)[0] for p, seed in zip(self._prompts, self._seeds, strict=True)]
        turned = self._policy.act(self._prompts[::-1], self._seeds[::-1], 1.0)[::-1]
        for other, how in ((alone, "alone"), (turned, "in another order")):
            require(self._same(together, other), f"decisions differ if asked {how}: let each depend on its own prompt")
        return "alone and in another order they are the same"

    @rule("temperature 0 is greedy: the seed does not matter")
    def greedy(self) -> str:
        first = self._policy.act(self._prompts, self._seeds, 0.0)
        second = self._policy.act(self._prompts, [seed + 1 for seed in self._seeds], 0.0)
        require(self._same(first, second), "decisions at temperature 0 depend on the seed: take the likeliest")
        if isinstance(self._policy, SupportsScoring):
            scores = self._policy.score_answers(list(zip(self._prompts, first, strict=True)))
            same = all(score.greedy == made.action for score, made in zip(scores, first, strict=True))
            require(same, "score_answers names another greedy action than act takes at temperature 0")
        return f"{len(first)} decisions agree"

    @rule("score_answers returns the log-probability with which act decided at temperature 1")
    def scores(self) -> str:
        assert isinstance(self._policy, SupportsScoring)
        decided = list(zip(self._prompts, self._act(), strict=True))
        for score, (_, made) in zip(self._policy.score_answers(decided), decided, strict=True):
            near = abs(score.log_prob - sum(made.log_probs)) <= 1e-3 + 0.01 * abs(score.log_prob)
            require(near, f"{made.action!r}: act says {sum(made.log_probs):.4f}, score_answers {score.log_prob:.4f}")
        return f"{len(decided)} scores agree"

    @rule("imitate makes the demonstrated actions likelier, and returns metrics")
    def imitates(self) -> str:
        decided = self._rare()
        demonstrations = [(prompt, made.action) for prompt, made in decided]
        return self._rises(decided, "imitate", lambda seed: self._policy.imitate(demonstrations, seed))

    @rule("freeze_reference does not change decisions")
    def freezes(self) -> str:
        before = self._act()
        self._policy.freeze_reference()
        require(self._same(before, self._act()), "decisions differ afterwards: only the KL term has a reference")
        return "decisions are the same"

    @rule("update makes decisions of positive advantage likelier, and returns metrics")
    def updates(self) -> str:
        decided = self._rare()
        rows = [Row(prompt, made, 1.0) for prompt, made in decided]
        pairs = zip(self._prompts, self._policy.act(self._prompts, self._seeds, 0.0), strict=True)
        chosen = {(prompt, made.action) for prompt, made in decided}
        rows += [Row(prompt, made, -1.0) for prompt, made in pairs if (prompt, made.action) not in chosen]
        return self._rises(decided, "update", lambda seed: self._policy.update(rows, seed))

    @rule("load restores what save wrote: decisions, and all that the next update depends on")
    def restores(self) -> str:
        rows = [Row(prompt, made, 1.0 - 2.0 * (at % 2)) for at, (prompt, made) in enumerate(self._rare())]
        with TemporaryDirectory() as name:
            self._policy.save(Path(name))
            files = [path for path in Path(name).rglob("*") if path.is_file()]
            require(files, "save wrote no file: write the weights into the folder")
            before = self._act()
            self._policy.update(rows, 3)
            after = self._act()
            self._policy.load(Path(name))
            require(self._same(before, self._act(), 0.0), "decisions differ after load: restore the weights exactly")
            self._policy.update(rows, 3)
            learnt = self._same(after, self._act(), 1e-6)
            require(learnt, "the same update has another effect after load: save the state of the optimiser as well")
        return f"{len(files)} files"

    @rule("load raises RunError for a folder without files of this policy")
    def refuses(self) -> str:
        with TemporaryDirectory() as name:
            try:
                self._policy.load(Path(name))
            except RunError as error:
                return short(str(error))
        raise RuleViolation("it loaded an empty folder: raise d2skill.errors.RunError that names what is missing")

    def _act(self) -> list[Decision]:
        decisions = self._policy.act(self._prompts, self._seeds, 1.0)
        asked, got = len(self._prompts), len(decisions)
        require(asked == got, f"act returned {got} decisions for {asked} prompts: return one for each, in their order")
        return decisions

    def _same(self, first: Sequence[Decision], second: Sequence[Decision], tolerance: float = _TOLERANCE) -> bool:
        return all(
            (one.text, one.action, one.tokens) == (other.text, other.action, other.tokens)
            and all(abs(a - b) <= tolerance for a, b in zip(one.log_probs, other.log_probs, strict=True))
            for one, other in zip(first, second, strict=True)
        )

    def _rare(self) -> list[tuple[Prompt, Decision]]:
        """Returns for each prompt an admissible decision that is seldom made, so that it can become likelier."""
        found = []
        for prompt in self._prompts:
            drawn = self._policy.act([prompt] * _SEEDS, range(_SEEDS), 1.0)
            made = [one for one in drawn if one.action in prompt.actions]
            if made:
                counts = {one.action: sum(other.action == one.action for other in made) for one in made}
                found.append((prompt, min(made, key=lambda one: (counts[one.action], one.action))))
        require(found, "no decision is an action of its prompt, so there is nothing to learn from")
        return found

    def _likelihood(self, decided: Sequence[tuple[Prompt, Decision]]) -> float:
        """Returns the mean log-probability of decisions, or how often their actions are drawn."""
        if isinstance(self._policy, SupportsScoring):
            return sum(score.log_prob for score in self._policy.score_answers(decided)) / len(decided)
        drawn = [self._policy.act([prompt] * _SEEDS, range(_SEEDS), 1.0) for prompt, _ in decided]
        hits = [sum(o.action == made.action for o in own) for own, (_, made) in zip(drawn, decided, strict=True)]
        return sum(hits) / (_SEEDS * len(decided))

    def _rises(
        self, decided: Sequence[tuple[Prompt, Decision]], name: str, learn: Callable[[int], dict[str, float]]
    ) -> str:
        said = "mean log-probability" if isinstance(self._policy, SupportsScoring) else "share of draws"
        before = self._likelihood(decided)
        for number in range(_PASSES):
            metrics = learn(number)
            require(isinstance(metrics, dict), f"{name} returned a {type(metrics).__name__}: return a dict of metrics")
            for key, value in metrics.items():
                number_like = isinstance(value, (int, float)) and math.isfinite(value)
                require(isinstance(key, str) and number_like, f"metric {key!r} is {value!r}: make it a finite number")
            after = self._likelihood(decided)
            if after > before:
                return f"{said} {before:.4g} before, {after:.4g} after pass {number + 1}"
        seen = f"{said} {before:.4g} before, {after:.4g} after {_PASSES} passes"
        raise RuleViolation(f"{seen}: step up the gradient of the log-probability times the advantage")
