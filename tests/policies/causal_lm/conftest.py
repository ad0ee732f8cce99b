"""Fixtures of the policies' tests."""

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Keeps PyTorch, where it is used, to one thread: small models are fastest so, and sums keep their order."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
