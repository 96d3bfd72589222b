"""What the unit tests of several parts need."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest


@contextmanager
def starved() -> Iterator[None]:
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def no_free_descriptor() -> Callable[[], AbstractContextManager[None]]:
    """Inside, every further ``open`` of this process fails with EMFILE."""
    return starved
