"""Contract suites of the parts that can be swapped, and tiny parts that keep them.

In a test of one's own, a line checks a part:

    def test_my_policy():
        assert_sound(check_policy(MyPolicy()))

The tiny parts are small and real: `d2skill init` writes them out as a start for one's own.
"""

from d2skill.testing.embedder import check_embedder
from d2skill.testing.environment import check_environment
from d2skill.testing.policy import check_policy
from d2skill.testing.reflector import check_reflector
from d2skill.testing.rules import Finding, assert_sound
from d2skill.testing.tiny_embedder import TinyEmbedder
from d2skill.testing.tiny_environment import TinyEnvironment
from d2skill.testing.tiny_policy import TinyPolicy
from d2skill.testing.tiny_reflector import TinyReflector
from d2skill.testing.tiny_tracker import TinyTracker
from d2skill.testing.tracker import check_tracker

__all__ = [
    "Finding",
    "TinyEmbedder",
    "TinyEnvironment",
    "TinyPolicy",
    "TinyReflector",
    "TinyTracker",
    "assert_sound",
    "check_embedder",
    "check_environment",
    "check_policy",
    "check_reflector",
    "check_tracker",
]
