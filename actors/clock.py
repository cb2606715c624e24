"""The shells' clock: unix seconds that never jump, so that spans and leases can both use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]


def monotone() -> Clock:
    """Unix time as it was at the call, going on by the monotonic clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
