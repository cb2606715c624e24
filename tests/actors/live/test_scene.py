"""The scene: beats and moves in, changes out, with a hand on the clock."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from actors.live.rows import EngineRow
from actors.live.scene import REMEMBERED_S, ROUTER_SILENT_S, Change, Scene
from actors.roster import LOST_AFTER_S
from bus.messages import Beat
from bus.moves import Ending, Moves, Passage, Sighting

BEAT = Beat(
    "e0",
    1,
    "m",
    "both",
    3,
    free_pages=60,
    total_pages=100,
    page_size=16,
    max_context=99,
    compatibility="c",
    slots=8,
    waiting=1,
    running=2,
    cached_pages=20,
    granted_pages=10,
)
SEEN = Sighting("f", "s@installed", "Sending", 1.0, ("e0",), 3)


def moves(sequence: int, *seen: Sighting, **more: object) -> Moves:
    return Moves("r0", sequence, 0.0, seen=seen, **more)  # type: ignore[arg-type]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_engine_is_shown_with_every_page_in_one_place(scene: Scene) -> None:
    scene.heard(BEAT, 0.0)

    [row] = scene.change(0.0).engines

    assert (row.name, row.status, row.waiting, row.running) == ("e0", "alive", 1, 2)
    owners = (row.free_pages, row.cached_pages, row.granted_pages, row.used_pages)
    assert owners == (40, 20, 10, 30)
    assert sum(owners) == row.total_pages


def test_rates_are_of_what_was_computed_in_the_last_seconds(scene: Scene) -> None:
    for number in range(9):
        beat = replace(BEAT, prefill_tokens=100 * number, decode_tokens=10 * number)
        scene.heard(beat, number / 2)

    [row] = scene.engines

    assert (row.prefill_per_s, row.decode_per_s) == (200.0, 20.0)


def test_an_engine_that_was_started_again_is_not_measured_against_its_life_before(
    scene: Scene,
) -> None:
    scene.heard(replace(BEAT, decode_tokens=900), 0.0)
    scene.heard(replace(BEAT, epoch=2, decode_tokens=0), 0.5)
    scene.heard(replace(BEAT, epoch=1, decode_tokens=950), 0.6)
    scene.heard(replace(BEAT, epoch=2, decode_tokens=20), 1.0)

    [row] = scene.engines

    assert row.decode_per_s == 40.0


def test_what_was_told_is_told_once(scene: Scene) -> None:
    scene.heard(BEAT, 0.0)
    scene.moved(moves(1, SEEN, passed=(Passage("s@installed", "Idle", "e", "Sending", 2),)), 0.0)

    first, second = scene.change(0.1), scene.change(0.2)

    assert (len(first.engines), first.flows, first.passed[0].count) == (1, (SEEN,), 2)
    assert second == Change(0.2)


def test_a_killed_engine_is_lost_within_three_seconds_and_shown_for_a_while(scene: Scene) -> None:
    scene.heard(BEAT, 0.0)
    scene.change(0.0)

    before = scene.change(LOST_AFTER_S)
    lost = scene.change(LOST_AFTER_S + 0.25)
    gone = scene.change(LOST_AFTER_S + 0.5 + REMEMBERED_S)

    assert LOST_AFTER_S + 0.25 < 3.0
    assert before.engines == ()
    assert [(row.name, row.status) for row in lost.engines] == [("e0", "lost")]
    assert (gone.gone, scene.engines) == (("e0",), ())


def test_an_engine_that_says_goodbye_has_left_and_one_that_comes_back_is_alive(
    scene: Scene,
) -> None:
    scene.heard(replace(BEAT, leaving=True), 0.0)
    left = scene.engines[0].status
    scene.heard(replace(BEAT, epoch=2), 1.0)

    assert (left, scene.engines[0].status) == ("left", "alive")


def test_a_flow_that_ends_is_not_there_any_more(scene: Scene) -> None:
    ending = Ending("f", "s@installed", "finished", 2.0, 5, 0.5)
    scene.moved(moves(1, SEEN), 0.0)
    scene.moved(moves(2, ended=(ending,)), 0.1)

    change = scene.change(0.2)

    assert (scene.flows, change.flows, change.ended) == ({}, (), (ending,))
    assert scene.router_of("f") is None


def test_a_message_that_is_missing_is_noticed(scene: Scene) -> None:
    assert scene.moved(moves(1), 0.0)
    assert not scene.moved(moves(3), 0.5)
    assert scene.moved(moves(4), 0.75)


def test_a_message_with_everything_takes_back_what_was_told_before(scene: Scene) -> None:
    other = replace(SEEN, flow="g")
    scene.moved(moves(1, SEEN, other), 0.0)
    scene.change(0.0)

    assert scene.moved(moves(7, other, whole=True), 0.5)

    change = scene.change(0.5)
    assert (change.forgotten, change.flows) == (("f",), (other,))
    assert list(scene.flows) == ["g"]


def test_flows_of_a_router_that_is_silent_are_forgotten_and_not_those_of_others(
    scene: Scene,
) -> None:
    scene.moved(moves(1, SEEN), 0.0)
    scene.moved(Moves("r1", 1, 0.0, seen=(replace(SEEN, flow="g"),)), ROUTER_SILENT_S)

    change = scene.change(ROUTER_SILENT_S + 0.1)

    assert (change.forgotten, list(scene.flows), scene.routers) == (("f",), ["g"], ("r1",))


def test_who_begins_to_look_is_told_all_there_is(scene: Scene) -> None:
    scene.heard(BEAT, 0.0)
    scene.moved(moves(1, SEEN), 0.0)
    scene.change(0.0)

    whole = scene.whole(0.1)

    assert whole.columns == EngineRow.__struct_fields__
    assert ([row.name for row in whole.engines], whole.flows) == (["e0"], (SEEN,))
