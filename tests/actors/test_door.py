"""An engine of several routers takes no more new flows than it has slots."""

from __future__ import annotations

import pytest

from actors.door import Door
from bus.messages import (
    AnyCommand,
    Mailbox,
    Order,
    PrepRecv,
    Query,
    Release,
    RemoteSend,
    Sampling,
    StartGenerate,
)
from bus.tokens import Tokens

PROMPT = Tokens(range(4))
START = StartGenerate("e0", PROMPT, 0, Sampling(), Mailbox("nobody"))
BEGINNINGS: list[AnyCommand] = [PrepRecv("e0", PROMPT), RemoteSend("e0", PROMPT, b""), START]


class Engine:
    """Two slots, and what comes in stays until it is let go."""

    def __init__(self) -> None:
        self.flows: set[str] = set()
        self.door = Door(2, self.flows.__contains__)

    def order(self, flow: str, router: str, command: AnyCommand = START, attempt: int = 1) -> str:
        """``busy``, or nothing where it came in."""
        refused = self.door.turned_away(Order(flow, attempt, router, command))
        if refused is None:
            self.flows.add(flow)
        return refused.reason if refused else ""


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_one_router_alone_counts_for_itself(engine: Engine) -> None:
    assert [engine.order(flow, "r0") for flow in "abcd"] == ["", "", "", ""]


@pytest.mark.parametrize("command", BEGINNINGS)
def test_where_several_routers_have_flows_nobody_begins_beyond_the_slots(
    engine: Engine, command: AnyCommand
) -> None:
    assert [engine.order("a", "r0"), engine.order("b", "r1")] == ["", ""]

    assert engine.order("c", "r0", command) == "busy"
    assert engine.order("c", "r1", command) == "busy"

    engine.flows.remove("a")
    assert engine.order("c", "r0", command) == ""
    assert engine.order("d", "r0", command) == "busy"


def test_a_newcomer_among_routers_is_refused_where_another_has_all_slots(engine: Engine) -> None:
    assert [engine.order(flow, "r0") for flow in "ab"] == ["", ""]

    assert engine.order("c", "r1") == "busy"

    engine.flows.clear()
    assert engine.order("c", "r1") == ""


def test_a_flow_that_is_inside_goes_on(engine: Engine) -> None:
    engine.order("a", "r0", PrepRecv("e0", PROMPT))
    engine.order("b", "r1")

    assert engine.order("a", "r0", START) == ""


def test_what_was_begun_elsewhere_or_turned_away_before_may_come_in(engine: Engine) -> None:
    engine.order("a", "r0")
    engine.order("b", "r1")

    assert engine.order("c", "r0", attempt=2) == ""


@pytest.mark.parametrize("command", [Query("e0", PROMPT), Release("e0")])
def test_what_begins_nothing_is_never_refused(engine: Engine, command: AnyCommand) -> None:
    engine.order("a", "r0")
    engine.order("b", "r1")

    assert engine.order("c", "r0", command) == ""
