"""The two buses that the conformance suite runs on."""

from __future__ import annotations

from itertools import count

import pytest

from bus.memory import MemoryBroker, MemoryBus
from bus.nats import NatsBus

from .parties import Connect

_NUMBERS = count(1)


@pytest.fixture(params=["memory", "nats"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Each call makes one more bus on the same broker, still to be entered."""
    if request.param == "memory":
        broker = MemoryBroker()
        return lambda: MemoryBus(broker)
    url: str = request.getfixturevalue("nats_url")
    return lambda: NatsBus(url)


@pytest.fixture
def root() -> str:
    """A subject prefix that no other test has: the real broker serves the whole session."""
    return f"test{next(_NUMBERS)}"
