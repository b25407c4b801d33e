"""Fixtures of the trainer: a mixture, a process alone, restored signals."""

import signal

import pytest
import torch

from tests.support.tiny_runs import one_process, small_mix


@pytest.fixture(scope="session")
def mixture(tmp_path_factory):
    """Store, address and manifest of a small mixture."""
    return small_mix(tmp_path_factory.mktemp("mixture"))


@pytest.fixture
def alone():
    """A process group of this process alone, and torch as it was before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one_process()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def signals():
    """Handlers as they were: a run takes over SIGTERM and SIGINT."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)
