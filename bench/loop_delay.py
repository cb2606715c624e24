"""How late an event loop is while this process's transport puts without end."""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct

TICK_S = 0.001


class Delay(Struct, frozen=True):
    """Milliseconds by which sleeps of 1 ms lasted longer."""

    p50_ms: float
    p99_ms: float


def loop_delay(seconds: float) -> Delay:
    late = asyncio.run(_tick(seconds))
    return Delay(late[len(late) // 2], late[len(late) * 99 // 100])


async def _tick(seconds: float) -> list[float]:
    late: list[float] = []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        await asyncio.sleep(TICK_S)
        late.append((time.perf_counter() - begun - TICK_S) * 1e3)
    return sorted(late)
