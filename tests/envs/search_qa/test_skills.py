"""Skills of search QA say how to ask: with the guard on, none holds an answer of its own question."""

import pytest
from toys import make_bank

from d2skill.bank import SkillBank
from d2skill.bank.answer_guard import AnswerGuard
from d2skill.config import EnvConfig, PromptConfig, ReflectConfig, SearchQAConfig
from d2skill.credit import hindsight
from d2skill.embedders.hashed import HashedEmbedder
from d2skill.envs import answers_of
from d2skill.envs.search_qa.environment import SearchQAEnvironment
from d2skill.episode import Episode
from d2skill.knowledge.evidence import evidence_of
from d2skill.learner import Learner
from d2skill.protocols import KnowsAnswers, SupportsExpert
from d2skill.reflectors import ContrastReflector
from d2skill.types import Decision, Group


@pytest.fixture(scope="module")
def environment(small_folder):
    return SearchQAEnvironment(small_folder, SearchQAConfig())


def played(environment, task_id, arm, index, answer):
    """A search and an answer."""
    session = environment.start(task_id)
    episode = Episode(session, arm=arm, index=index, max_steps=4, settings=PromptConfig(), count_tokens=len)
    for action in (session.observation.actions[0], f"answer[{answer}]"):
        episode.act(episode.prompt(), Decision(action, action, (), ()))
    return episode.trajectory()


def groups(environment, count=6):
    made = []
    for task_id in environment.task_ids("train")[:count]:
        answer = environment.golden_answers(task_id)[0]
        members = (
            played(environment, task_id, "skills", 0, "Atlantis"),
            played(environment, task_id, "none", 1, answer),
        )
        made.append(Group(members[0].task, members))
    return made


def learned(environment, bank, **reflect):
    made = groups(environment)
    learner = Learner(bank, ContrastReflector(), ReflectConfig(**reflect), environment)
    return learner.observe(made, hindsight(made), iteration=0, seed=0)


def holding(environment, bank):
    """The skills that hold an answer of their own question, checked by the guard itself and by plain search."""
    guard = AnswerGuard(environment)
    found = [one for one in bank.skills() if guard.text(one.text, [one.source_task]) != one.text]
    for one in bank.skills():
        words = " ".join((one.text.title, one.text.principle, one.text.when_to_apply)).lower()
        assert (one in found) == any(answer.lower() in words for answer in environment.golden_answers(one.source_task))
    return found


def test_the_environment_tells_its_answers_and_has_a_player(environment, small_folder):
    assert isinstance(environment, KnowsAnswers)
    assert isinstance(environment, SupportsExpert)
    assert isinstance(answers_of(EnvConfig(kind="search-qa", data=small_folder)), SearchQAEnvironment)
    assert answers_of(EnvConfig()) is None


def test_drafts_of_a_contrast_lose_the_answer_and_keep_the_search(environment):
    bank = make_bank()
    update = learned(environment, bank)
    assert update.with_answer
    assert holding(environment, bank) == []
    assert bank.skills()
    assert all("search" in one.text.principle.lower() for one in bank.skills())


def test_without_the_guard_skills_hold_answers_and_nothing_is_counted(environment):
    bank = make_bank()
    update = learned(environment, bank, guard_answers=False)
    assert update.with_answer is None
    assert holding(environment, bank)


def test_consolidated_skills_say_how_to_ask(environment):
    bank = SkillBank(HashedEmbedder(64))
    update = learned(environment, bank)
    assert update.with_answer == 0
    (one,) = bank.skills()
    assert one.text.principle == "Search the whole task, then answer one that fits the task."
    assert (one.task_text, one.supports, one.refutes) == ("where {...}", 6, 6)


def test_evidence_of_a_demonstration_holds_no_answer(environment):
    (group,) = groups(environment, 1)
    evidence = evidence_of(group.trajectories[1])
    assert AnswerGuard(environment).evidence(evidence) == evidence != []
