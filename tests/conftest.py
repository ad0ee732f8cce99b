"""Fixtures that all rooms share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def docs() -> Path:
    """The project's documentation."""
    return Path(__file__).parent.parent / "docs"
