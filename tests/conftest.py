"""Fixtures that all rooms share, and the profile of the property tests."""

from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("no-deadline", deadline=None)  # tests never assert times
hypothesis.settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def docs() -> Path:
    """The project's documentation."""
    return Path(__file__).parent.parent / "docs"
