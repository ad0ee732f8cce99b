"""Fixtures that all rooms share, and the profile of the property tests."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("no-deadline", deadline=None)  # tests never assert times
hypothesis.settings.load_profile("no-deadline")


@pytest.fixture(scope="session", autouse=True)
def no_files_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the user's own file of hosts out of all tests, and tests out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.delenv("D2SKILL_KEYS", raising=False)
        yield


@pytest.fixture(scope="session")
def docs() -> Path:
    """The project's documentation."""
    return Path(__file__).parent.parent / "docs"


@pytest.fixture(autouse=True)
def no_keys_of_other_tests(monkeypatch):
    """A process masks all keys that it has used, and a test that of another would find its texts masked."""
    monkeypatch.setattr("d2skill.utils.key_mask._masks", {})
