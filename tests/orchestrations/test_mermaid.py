"""A drawing shows what the strategy does when it is run."""

from __future__ import annotations

from bus.messages import Event, Prepared
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import Generating, Preparing, State, Step, generate
from orchestrations.mermaid import mermaid

from .finding import ONE, PAIR


def test_the_reasons_to_give_up_share_an_arrow() -> None:
    drawing = mermaid(data_parallel, (PAIR,))

    assert drawing.splitlines() == [
        "stateDiagram-v2",
        "    [*] --> Idle",
        "    Idle --> Generating: Submitted / StartGenerate",
        "    Generating --> Done: Finished",
        "    Generating --> Done: Cancelled, Refused, TimedOut / Release",
        "    Generating --> Done: EngineLost, Superseded",
        "    Done --> [*]",
    ]


def test_an_event_that_leads_two_ways_has_two_arrows() -> None:
    lines = mermaid(disaggregated, (PAIR,)).splitlines()

    assert "    Preparing --> Sending: Prepared / RemoteSend, StartGenerate" in lines
    assert "    Preparing --> Generating: Prepared / StartGenerate" in lines


def test_an_arrow_that_the_code_does_not_take_is_not_drawn() -> None:
    def never_sends(state: State, event: Event) -> Step:
        match state, event:
            case Preparing(job), Prepared():
                return generate(job)
        return disaggregated(state, event)

    assert "Sending" not in mermaid(never_sends, (PAIR,))
    assert Generating.__name__ in mermaid(never_sends, (PAIR,))


def test_no_arrow_is_drawn_twice() -> None:
    lines = mermaid(disaggregated, (ONE, PAIR)).splitlines()

    assert len(set(lines)) == len(lines)
