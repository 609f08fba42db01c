"""Hypothesis without deadlines (machines are shared) and, in CI, without chance."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from helpers import ToldError
from hypothesis import settings

settings.register_profile("dev", deadline=None, max_examples=60)
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


@pytest.fixture
def alarm() -> Iterator[None]:
    """A handler of SIGVTALRM that raises ToldError; a test sets the timer."""

    def handler(*_: object) -> None:
        raise ToldError

    before = signal.signal(signal.SIGVTALRM, handler)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)
