"""What waking a process costs on this machine: half of a round trip by eventfd between two that
sleep, with nothing else in between. `bench.transport` sets its notices beside it.

``python -m bench.bare_wake ASKING ANSWERING COUNT`` is the other process.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import time
from typing import Final

ROUNDS: Final = 500


def bare_wake_s(rounds: int = ROUNDS) -> float:
    """The median."""
    asking, answering = os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC)
    command = [sys.executable, "-m", __name__, str(asking), str(answering), str(rounds)]
    try:
        with subprocess.Popen(command, pass_fds=(asking, answering)) as other:
            os.eventfd_read(answering)  # it is there
            seconds = [_round_s(asking, answering) for _ in range(rounds)]
            other.wait()
    finally:
        os.close(asking)
        os.close(answering)
    return statistics.median(seconds) / 2


def _round_s(asking: int, answering: int) -> float:
    begun = time.perf_counter()
    os.eventfd_write(asking, 1)
    _await(answering)
    return time.perf_counter() - begun


def _await(descriptor: int) -> None:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.poll()
    os.eventfd_read(descriptor)


def _answer(asking: int, answering: int, rounds: int) -> None:
    os.eventfd_write(answering, 1)
    for _ in range(rounds):
        _await(asking)
        os.eventfd_write(answering, 1)


if __name__ == "__main__":
    _answer(*map(int, sys.argv[1:]))
