"""What a router tells of its flows: nothing unless somebody looks, and then everything once."""

from __future__ import annotations

import pytest

from actors.effects import Effect, Publish
from actors.flow import Flow
from actors.inputs import Asked, Ticked, Withdrawn
from actors.lookout import Bounds, Looked, Lookout, Unseen
from bus.codec import decode, encode
from bus.messages import (
    Finished,
    Followed,
    Mailbox,
    Prepared,
    Progress,
    Request,
    Sampling,
    Sent,
    Started,
    Usage,
)
from bus.moves import LEASE_S, Ending, Moves, Passage, Sighting, Watching
from bus.tokens import Tokens
from tests.actors.test_routing import FLOW, PROMPT, Router

MOVES = "ms.router.r0.moves"


@pytest.fixture
def router() -> Router:
    return Router()


def told(effects: list[Effect]) -> list[Moves]:
    found = [e for e in effects if isinstance(e, Publish) and e.subject == MOVES]
    return [decode(e.payload, Moves) for e in found]


def tick(router: Router) -> Moves:
    [moves] = told(router.hear(Ticked()))
    return moves


def several(router: Router, count: int) -> list[Flow]:
    """So many flows at work."""
    for number in range(count):
        request = Request(PROMPT, Sampling(), Mailbox("inbox"))
        router.hear(Asked(f"{number:032x}", "m", request, "data_parallel"))
    return list(router.core.flows.values())


def through(router: Router) -> None:
    """A whole flow, with three tokens, over two and a half seconds."""
    router.ask("disaggregated")
    router.answer("d0", Prepared(b"grant", 0))
    router.answer("p0", Sent(1, 0.1, "memory"))
    router.now += 0.5
    progress: Progress = (Followed(FLOW, 0, Tokens((7, 8, 9))),)
    router.hear(progress)
    router.now += 2.0
    router.answer("d0", Started(0))
    router.answer("d0", Finished("stop", Usage()))


def test_nobody_looks_and_nothing_is_told_or_kept(router: Router) -> None:
    through(router)

    effects = router.hear(Ticked())

    assert told(effects) == []
    assert router.core.look(FLOW, router.now) == Unseen()


def test_who_begins_to_look_is_told_of_every_flow_there_is(router: Router) -> None:
    router.ask("disaggregated")
    router.hear(Watching())

    first, second = tick(router), tick(router)

    assert (first.sequence, first.whole) == (1, True)
    [seen] = first.seen
    assert (seen.flow, seen.strategy, seen.state) == (FLOW, "disaggregated@installed", "Preparing")
    assert seen.engines == ("d0",)
    assert (second.sequence, second.whole, second.seen) == (2, False, ())


def test_a_flow_that_moves_twice_between_two_messages_is_seen_once_and_counted_twice(
    router: Router,
) -> None:
    router.hear(Watching())
    tick(router)
    router.ask("disaggregated")
    router.answer("d0", Prepared(b"grant", 0))

    moves = tick(router)

    name = "disaggregated@installed"
    assert [(s.flow, s.state) for s in moves.seen] == [(FLOW, "Sending")]
    assert moves.passed == (
        Passage(name, "Idle", "Submitted", "Preparing", 1),
        Passage(name, "Preparing", "Prepared", "Sending", 1),
    )


def test_a_flow_that_ends_is_told_of_with_its_times(router: Router) -> None:
    router.hear(Watching())
    through(router)
    router.hear(Watching())

    moves = tick(router)

    assert moves.ended == (
        Ending(FLOW, "disaggregated@installed", "finished", jct_s=2.5, num_tokens=3, ttft_s=0.5),
    )
    assert moves.ended[0].tpot_s == 1.0
    assert moves.seen == ()


def test_a_flow_without_room_is_seen_to_wait(router: Router) -> None:
    router.hear(Watching())
    tick(router)
    for engine in ("p0", "d0"):
        router.beat(engine, slots=1, load=1)
    router.ask("data_parallel")

    moves = tick(router)

    assert [s.state for s in moves.seen] == ["Waiting"]
    assert [(p.before, p.event, p.after) for p in moves.passed] == [("Idle", "Asked", "Waiting")]


def test_it_stops_when_the_lease_is_over_and_begins_anew_with_the_next(router: Router) -> None:
    router.hear(Watching())
    tick(router)
    through(router)
    router.now += LEASE_S + 0.1

    silent = router.hear(Ticked())
    router.hear(Watching())
    again = tick(router)

    assert told(silent) == []
    assert (again.sequence, again.whole) == (1, True)
    assert again.ended == ()
    assert router.core.look(FLOW, router.now) == Unseen()


def test_who_missed_a_message_asks_for_everything(router: Router) -> None:
    router.ask("disaggregated")
    router.hear(Watching())
    tick(router)

    router.hear(Watching(whole=True))

    again = tick(router)
    assert (again.whole, [s.flow for s in again.seen]) == (True, [FLOW])


def test_more_flows_than_fit_into_a_message_are_told_of_in_the_next(router: Router) -> None:
    flows = several(router, 3)
    lookout = Lookout("r0", router.core.flows, Bounds(seen=2))
    lookout.watched(Watching(), 0.0)
    lookout.tick(0.0)
    for flow in flows:
        lookout.moved(flow, "Idle", "Submitted", "Generating")

    first, second = lookout.tick(0.25), lookout.tick(0.5)

    assert first is not None
    assert second is not None
    assert [s.flow for s in (*first.seen, *second.seen)] == [f.id for f in flows]
    assert (len(first.seen), first.passed[0].count) == (2, 3)


def test_more_flows_than_a_message_holds_are_told_of_in_several_to_who_begins_to_look(
    router: Router,
) -> None:
    flows = several(router, 5)
    lookout = Lookout("r0", router.core.flows, Bounds(seen=1, whole=3))
    lookout.watched(Watching(), 0.0)

    messages = [moves for n in range(4) if (moves := lookout.tick(n / 4)) is not None]

    assert [m.whole for m in messages] == [True, False, False, False]
    assert [len(m.seen) for m in messages] == [3, 1, 1, 0]
    assert [s.flow for m in messages for s in m.seen] == [f.id for f in flows]


def test_the_largest_message_goes_through_a_broker_that_was_left_as_it_came() -> None:
    name, engines = "s" * 64, tuple(f"{n}" + "e" * 15 for n in range(3))
    seen = Sighting("f" * 32, f"{name}@1000", "TheLongestStateThereIs", 1.5, engines, 100_000)
    ending = Ending("f" * 32, f"{name}@1000", "engine_lost", 1.5, 100_000, 0.5)
    bounds = Bounds()

    largest = Moves("r" * 64, 1, 1.5, True, (seen,) * bounds.whole, (), (ending,) * bounds.ended)

    assert len(encode(largest)) < 1_000_000


def test_where_more_flows_end_than_can_be_told_the_next_message_has_all_that_are_left(
    router: Router,
) -> None:
    flows = several(router, 3)
    lookout = Lookout("r0", router.core.flows, Bounds(ended=1))
    lookout.watched(Watching(), 0.0)
    lookout.tick(0.0)
    for flow in flows[:2]:
        router.hear(Withdrawn(flow.id))
        lookout.ended(flow, (), 1.0)

    moves = lookout.tick(0.25)

    assert moves is not None
    assert [e.flow for e in moves.ended] == [flows[0].id]
    assert (moves.whole, [s.flow for s in moves.seen]) == (True, [flows[2].id])


def test_a_flow_can_be_looked_at_while_it_goes_on(router: Router) -> None:
    router.ask("disaggregated")
    router.now += 1.0

    looked = router.core.look(FLOW, router.now)

    assert isinstance(looked, Looked)
    assert (looked.state, looked.prompt, looked.attempt) == ("Preparing", PROMPT, 1)
    spans = {span.name: span.duration_s for span in looked.spans}
    assert spans == {"send PrepRecv": 1.0, "Preparing": 1.0, "microserve.request": 1.0}


def test_a_flow_that_ended_while_somebody_looked_can_still_be_looked_at(router: Router) -> None:
    router.hear(Watching())
    through(router)

    looked = router.core.look(FLOW, router.now)

    assert isinstance(looked, Looked)
    assert looked.answers == (Tokens((7, 8, 9)),)
    assert (looked.state, looked.spans[-1].name) == ("Done", "microserve.request")


def test_of_flows_that_ended_only_the_newest_are_kept(router: Router) -> None:
    flows = several(router, 2)
    lookout = Lookout("r0", {}, Bounds(kept=1))
    lookout.watched(Watching(), 0.0)

    for flow in flows:
        lookout.ended(flow, (), 1.0)

    assert lookout.look(flows[0].id, 1.0) == Unseen()
    assert isinstance(lookout.look(flows[1].id, 1.0), Looked)
