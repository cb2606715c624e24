"""A strategy without an end is stopped, whatever it does; others are not disturbed."""

from __future__ import annotations

import signal
import threading

import pytest

from actors.guard import Guard, TookTooLong
from bus.messages import Cancelled, Event
from orchestrations.machine import Done, Idle, State, Step

LIMIT_S = 0.02


def endless(state: State, event: Event) -> Step:
    while True:
        pass


def stubborn(state: State, event: Event) -> Step:
    """Swallows what it can."""
    while True:
        try:
            while True:
                pass
        except Exception:
            continue


def quick(state: State, event: Event) -> Step:
    return Done("cancelled"), []


@pytest.mark.parametrize("strategy", [endless, stubborn])
def test_a_loop_without_an_end_is_ended(strategy: object) -> None:
    with pytest.raises(TookTooLong, match=r"within 0\.02 s of processor time"):
        Guard(LIMIT_S).limited(strategy)(Idle(), Cancelled())  # type: ignore[arg-type]


def test_a_transition_is_what_it_was() -> None:
    guard = Guard(LIMIT_S)

    assert guard.limited(quick)(Idle(), Cancelled()) == (Done("cancelled"), [])
    assert guard.limited(quick).__name__ == "quick"


def test_after_the_call_nobody_is_stopped() -> None:
    guard = Guard(LIMIT_S)
    guard.limited(quick)(Idle(), Cancelled())

    signal.raise_signal(signal.SIGVTALRM)

    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_what_a_strategy_raises_is_passed_on() -> None:
    def faulty(state: State, event: Event) -> Step:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Guard(LIMIT_S).limited(faulty)(Idle(), Cancelled())


def test_in_another_thread_a_call_is_not_limited_and_not_refused() -> None:
    results: list[object] = []

    def work() -> None:
        results.append(Guard(LIMIT_S).limited(quick)(Idle(), Cancelled()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert results == [(Done("cancelled"), [])]
