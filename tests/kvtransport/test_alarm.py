from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from kvtransport.alarm import Alarm


class FakeWorker:
    """Something happens in it after so many rounds of progress, or never."""

    def __init__(self) -> None:
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.quiet_rounds: int | None = None
        self.rounds = 0
        self.armed = 0
        self.has_work = False

    def progress(self) -> bool:
        self.rounds += 1
        return self.rounds == self.quiet_rounds

    def arm(self) -> bool:
        self.armed += 1
        return not self.has_work


class Setting:
    """An alarm whose clock moves a second with every look at it."""

    def __init__(self) -> None:
        self.worker = FakeWorker()
        self.is_wanted: Callable[[], bool] = lambda: False
        seconds = itertools.count()
        self.alarm = Alarm(self.worker, lambda: float(next(seconds)), lambda: self.is_wanted())


@pytest.fixture
def setting() -> Iterator[Setting]:
    made = Setting()
    yield made
    made.alarm.close()
    os.close(made.worker.event_fd)


def test_who_expects_nothing_sleeps_at_once(setting: Setting) -> None:
    setting.alarm.sleep(timeout_s=0)

    assert (setting.worker.rounds, setting.worker.armed) == (0, 1)


def test_who_expects_something_looks_out_for_it_and_then_sleeps(setting: Setting) -> None:
    setting.alarm.expect(5)

    setting.alarm.sleep(timeout_s=0)

    assert (setting.worker.rounds, setting.worker.armed) == (4, 1)


def test_who_gets_what_was_expected_does_not_sleep(setting: Setting) -> None:
    setting.worker.quiet_rounds = 2
    setting.alarm.expect(5)

    setting.alarm.sleep(timeout_s=None)

    assert (setting.worker.rounds, setting.worker.armed) == (2, 0)


def test_a_shorter_expectation_does_not_shorten_a_longer_one(setting: Setting) -> None:
    setting.alarm.expect(9)
    setting.alarm.expect(1)

    setting.alarm.sleep(timeout_s=0)

    assert setting.worker.rounds == 7


def test_who_is_asked_for_something_while_looking_out_does_not_sleep(setting: Setting) -> None:
    answers = itertools.chain([False, False, True])
    setting.is_wanted = lambda: next(answers)
    setting.alarm.expect(9)

    setting.alarm.sleep(timeout_s=None)

    assert setting.worker.armed == 0


def test_a_ring_at_the_last_moment_wakes_once(setting: Setting) -> None:
    def rung_meanwhile() -> bool:
        setting.alarm.ring()
        return False

    setting.is_wanted = rung_meanwhile

    setting.alarm.sleep(timeout_s=None)

    assert setting.worker.armed == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(setting.alarm.bell)


def test_the_workers_descriptor_wakes(setting: Setting) -> None:
    os.eventfd_write(setting.worker.event_fd, 1)

    setting.alarm.sleep(timeout_s=None)

    assert setting.worker.armed == 1
    assert os.eventfd_read(setting.worker.event_fd) == 1, "it is the worker's to read"


def test_who_has_work_already_does_not_sleep(setting: Setting) -> None:
    setting.worker.has_work = True
    setting.is_wanted = lambda: pytest.fail("it was about to sleep")

    setting.alarm.sleep(timeout_s=None)

    assert setting.worker.armed == 1
