"""The device thread: one call at a time, off the loop, and what it raises comes back."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing

import pytest

from actors.device import DeviceThread


async def test_a_call_runs_on_the_device_thread_and_its_result_comes_back() -> None:
    with closing(DeviceThread[str]()) as device:
        assert await device.run(lambda: threading.current_thread().name) == "device"


async def test_calls_run_one_after_the_other_in_order() -> None:
    done: list[int] = []
    with closing(DeviceThread[None]()) as device:
        first, second = (
            asyncio.ensure_future(device.run(lambda n=n: done.append(n)))  # type: ignore[misc]
            for n in (1, 2)
        )
        await asyncio.gather(first, second)

    assert done == [1, 2]


async def test_what_a_call_raises_is_raised_where_it_is_awaited_and_the_thread_goes_on() -> None:
    with closing(DeviceThread[float]()) as device:
        with pytest.raises(ZeroDivisionError):
            await device.run(lambda: 1 / 0)

        assert await device.run(lambda: 1.0) == 1.0


async def test_closing_waits_for_the_call_in_progress_and_does_nothing_again() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    before = set(threading.enumerate())

    def call() -> None:
        begun.set()
        assert go_on.wait(10)
        ended.set()

    device = DeviceThread[None]()
    running = asyncio.ensure_future(device.run(call))
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    go_on.set()
    device.close()
    device.close()

    assert ended.is_set()
    assert "device" not in {thread.name for thread in set(threading.enumerate()) - before}
