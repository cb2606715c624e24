"""The fleet as a fold of heartbeats."""

from __future__ import annotations

from actors.roster import LOST_AFTER_S, Roster
from bus.fleet import Role
from bus.messages import Beat


def beat(
    engine: str, epoch: int = 1, load: int = 0, role: Role = "both", leaving: bool = False
) -> Beat:
    return Beat(engine, epoch, "m", role, load, 10, 10, 16, 1024, "same", leaving)


def test_an_engine_is_known_from_its_first_beat() -> None:
    roster, ended = Roster().heard(beat("e0", epoch=7), now=1.0)

    assert not ended
    assert roster.epoch("e0") == 7
    assert roster.models() == ["m"]


def test_a_newer_epoch_means_that_the_engine_was_lost_in_between() -> None:
    roster, _ = Roster().heard(beat("e0", epoch=1), 1.0)

    roster, ended = roster.heard(beat("e0", epoch=2), 1.5)

    assert ended
    assert roster.epoch("e0") == 2


def test_a_late_beat_of_an_ended_epoch_changes_nothing() -> None:
    roster, _ = Roster().heard(beat("e0", epoch=2), 1.0)

    later, ended = roster.heard(beat("e0", epoch=1), 1.5)

    assert not ended
    assert later == roster


def test_an_engine_that_says_goodbye_is_gone_at_once() -> None:
    roster, _ = Roster().heard(beat("e0"), 1.0)

    roster, ended = roster.heard(beat("e0", leaving=True), 1.1)

    assert ended
    assert roster.epoch("e0") == 0


def test_silence_is_noticed_after_three_beats() -> None:
    roster, _ = Roster().heard(beat("e0"), 10.0)

    assert roster.silent(10.0 + LOST_AFTER_S) == []
    assert roster.silent(10.1 + LOST_AFTER_S) == ["e0"]
