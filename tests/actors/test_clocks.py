"""Clocks that agree, and clocks that do not."""

from __future__ import annotations

import pytest

from actors.clocks import Asked, compared


def asked(who: str, ahead_s: float, took_s: float = 0.002) -> Asked:
    return Asked(who, 100.0, 100.0 + took_s, 100.0 + took_s / 2 + ahead_s)


def test_those_that_agree_are_one_finding() -> None:
    [finding] = compared([asked("r0", 0.001), asked("g0", -0.0004)])

    assert finding.state == "ok"
    assert finding.what == "within 1.0 ms of ours: g0, r0"


@pytest.mark.parametrize(
    ("ahead_s", "state", "words"),
    [
        (0.3, "note", "e0 is 0.300 s ahead of this machine"),
        (-0.3, "note", "e0 is 0.300 s behind this machine"),
        (5.0, "fault", "e0 is 5.000 s ahead of this machine"),
    ],
)
def test_one_that_does_not_is_named_with_what_to_do(ahead_s: float, state: str, words: str) -> None:
    [finding] = compared([asked("e0", ahead_s)])

    assert (finding.state, finding.what) == (state, words)
    assert "NTP" in finding.advice


def test_a_slow_answer_is_no_proof() -> None:
    [finding] = compared([asked("e0", 0.4, took_s=0.9)])

    assert finding.state == "ok"
