"""The engine host's core around a scripted engine: who hears what, in how many messages."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from actors.effects import Effect, Publish, Record
from actors.following import INTERVAL_S
from actors.hosting import HostCore
from actors.transferred import Transferred
from bus.codec import decode, decode_public
from bus.messages import (
    Answer,
    Finished,
    Followed,
    Mailbox,
    Matched,
    Order,
    Prepared,
    PrepRecv,
    Progress,
    Query,
    Refused,
    Release,
    Released,
    RemoteSend,
    Report,
    Sampling,
    Started,
    StartGenerate,
    Suspend,
    Suspended,
    Usage,
)
from bus.public import Batch, Delta, Done, Reply
from bus.subjects import Subjects
from bus.tokens import Tokens
from bus.transfers import Arrived
from engine.news import News
from engine.outcomes import Outcome, Output, Phase, Told
from observability.spans import Span, SpanContext

PROMPT = Tokens(range(4))
BATCHES = Mailbox("box", "msgpack")
PARENT = SpanContext("ab" * 16, "cd" * 8, True)


class Scripted:
    """An engine that says what it is told to."""

    def __init__(self) -> None:
        self.says: deque[list[Outcome]] = deque()
        self.heard: list[Order | News] = []
        self.repeats = False

    def is_repeat(self, order: Order) -> bool:
        return self.repeats

    def handle(self, event: Order | News, now: float) -> list[Outcome]:
        self.heard.append(event)
        return self.says.popleft() if self.says else []

    def step(self, now: float) -> list[Outcome]:
        return self.says.popleft()


class Host:
    def __init__(self) -> None:
        self.engine = Scripted()
        self.core = HostCore("e0", 7, self.engine, Subjects())

    def start(self, flow: str, reply: Mailbox = BATCHES, router: str = "r0") -> list[Effect]:
        command = StartGenerate("e0", PROMPT, 0, Sampling(), reply)
        return self.core.order(Order(flow, 1, router, command), PARENT, now=1.0)

    def told(self, flow: str, verb: str, event: Answer, *phases: Phase) -> list[Effect]:
        told = Told(flow, 1, verb, event, phases)  # type: ignore[arg-type]
        return self.core.outcomes([told], now=2.0)


@pytest.fixture
def host() -> Host:
    return Host()


def delta(flow: str, offset: int, reply: Mailbox = BATCHES) -> Output:
    return Output(flow, 1, reply, Delta(flow, offset, (offset,), "x"))


def published(effects: list[Effect]) -> list[Publish]:
    return [e for e in effects if isinstance(e, Publish)]


def reports(effects: list[Effect]) -> list[Report]:
    events = [e for e in published(effects) if e.subject.endswith(".event")]
    return [decode(e.payload, Report) for e in events]


def flows(letter: Publish) -> list[str]:
    return [m.flow for m in decode(letter.payload, Batch) if isinstance(m, Delta)]


def followed(effects: list[Effect]) -> dict[str, Progress]:
    letters = [p for p in published(effects) if p.subject.endswith(".tokens")]
    return {letter.subject: decode(letter.payload, Progress) for letter in letters}


def spans(effects: list[Effect]) -> list[Span]:
    return [span for e in effects if isinstance(e, Record) for span in e.spans]


def test_an_event_goes_to_the_router_that_gave_the_order(host: Host) -> None:
    host.engine.says.append([Told("f", 3, "Query", Matched(2, 0, 9))])

    effects = host.core.order(Order("f", 3, "r7", Query("e0", PROMPT)), None, 1.0)

    assert published(effects)[0].subject == "ms.router.r7.event"
    assert reports(effects) == [Report("f", 3, "e0", 7, Matched(2, 0, 9))]


def test_a_step_sends_one_message_per_mailbox(host: Host) -> None:
    for flow in ("a", "b", "c"):
        host.start(flow)

    effects = host.core.outcomes([delta(f, 0) for f in ("a", "b", "c")], 2.0)

    [letter] = [p for p in published(effects) if p.subject == "box"]
    assert flows(letter) == ["a", "b", "c"]


def test_a_json_mailbox_gets_one_object_per_message(host: Host) -> None:
    inbox = Mailbox("inbox", "json")
    host.start("a", inbox)

    done = Output("a", 1, inbox, Done("a", 1, "stop"))
    effects = host.core.outcomes([delta("a", 0, inbox), done], 2.0)

    letters = [p for p in published(effects) if p.subject == "inbox"]
    assert [decode_public(p.payload, Reply) for p in letters] == [
        Delta("a", 0, (0,), "x"),
        Done("a", 1, "stop"),
    ]


def test_each_router_hears_the_tokens_of_its_own_flows_in_one_message(host: Host) -> None:
    host.start("a", router="r0")
    host.start("b", router="r1")
    host.start("c", router="r0")

    effects = host.core.outcomes([delta("a", 0), delta("b", 0), delta("c", 4)], 2.0)

    assert followed(effects) == {
        "ms.router.r0.tokens": (Followed("a", 0, Tokens([0])), Followed("c", 4, Tokens([4]))),
        "ms.router.r1.tokens": (Followed("b", 0, Tokens([0])),),
    }


def test_a_router_hears_of_the_tokens_of_many_steps_at_once(host: Host) -> None:
    host.start("a")
    host.core.outcomes([delta("a", 0)], 2.0)

    soon = host.core.outcomes([delta("a", 1)], 2.0 + INTERVAL_S / 2)
    later = host.core.outcomes([delta("a", 2)], 2.0 + INTERVAL_S)

    assert followed(soon) == {}
    assert followed(later) == {"ms.router.r0.tokens": (Followed("a", 1, Tokens([1, 2])),)}


def test_a_router_hears_of_several_answers_one_by_one(host: Host) -> None:
    host.start("a")
    other = Output("a", 1, BATCHES, Delta("a", 0, (9,), choice=1))

    effects = host.core.outcomes([delta("a", 0), other], 2.0)

    both = (Followed("a", 0, Tokens([0])), Followed("a", 0, Tokens([9]), choice=1))
    assert followed(effects) == {"ms.router.r0.tokens": both}


def test_what_no_later_step_would_tell_is_told_when_asked_for(host: Host) -> None:
    host.start("a")
    host.core.outcomes([delta("a", 0)], 2.0)
    host.core.outcomes([delta("a", 1)], 2.01)

    effects = host.core.follow(2.02)

    assert followed(effects) == {"ms.router.r0.tokens": (Followed("a", 1, Tokens([1])),)}
    assert host.core.follow(2.03) == []


def test_a_router_has_all_tokens_before_it_hears_of_an_event(host: Host) -> None:
    host.start("a")
    host.core.outcomes([delta("a", 0)], 2.0)
    host.core.outcomes([delta("a", 1)], 2.01)

    effects = host.core.outcomes([Told("a", 1, "Suspend", Suspended(5))], 2.02)

    assert followed(effects) == {"ms.router.r0.tokens": (Followed("a", 1, Tokens([1])),)}


def test_tokens_leave_before_the_report_of_the_end(host: Host) -> None:
    host.start("a")

    effects = host.core.outcomes(
        [Told("a", 1, "StartGenerate", Finished("stop", Usage())), delta("a", 0)], 2.0
    )

    assert [p.subject for p in published(effects)] == [
        "box",
        "ms.router.r0.tokens",
        "ms.router.r0.event",
    ]


def test_started_leaves_the_command_open_and_finished_closes_it(host: Host) -> None:
    host.start("a")

    started = host.told("a", "StartGenerate", Started(0))
    assert host.core.statistics().open == 1
    finished = host.told("a", "StartGenerate", Finished("stop", Usage()))

    assert [r.event for r in reports(started + finished)] == [
        Started(0),
        Finished("stop", Usage()),
    ]
    assert spans(started) == []
    assert spans(finished)[0].parent == PARENT
    assert host.core.statistics().open == 0


def test_a_commands_span_runs_from_the_order_to_its_end_with_a_child_per_phase(
    host: Host,
) -> None:
    host.start("a")

    phase = Phase("prefill", 1.2, 1.5, {"tokens": 4})
    effects = host.told("a", "StartGenerate", Finished("stop", Usage()), phase)

    command, child = spans(effects)
    assert (command.begin_s, command.end_s) == (1.0, 2.0)
    assert (child.begin_s, child.end_s, child.parent) == (1.2, 1.5, command.context)


def test_the_phases_before_the_first_token_are_part_of_the_span(host: Host) -> None:
    host.start("a")

    host.told("a", "StartGenerate", Started(0), Phase("prefill", 1.1, 1.4))
    effects = host.told("a", "StartGenerate", Finished("stop", Usage()), Phase("decode", 1.4, 2.0))

    assert [s.name for s in spans(effects)] == ["process StartGenerate", "prefill", "decode"]


def test_a_released_command_keeps_the_phases_it_had(host: Host) -> None:
    host.start("a")
    host.told("a", "StartGenerate", Started(0), Phase("prefill", 1.1, 1.4))
    host.core.order(Order("a", 1, "r0", Release("e0")), PARENT, 1.5)

    effects = host.told("a", "Release", Released())

    assert "prefill" in {s.name for s in spans(effects)}


def test_a_refusal_is_reported_counted_and_marks_the_span(host: Host) -> None:
    host.start("a")

    effects = host.told("a", "StartGenerate", Refused("StartGenerate", "busy", "full"))

    assert spans(effects)[0].error == "busy: full"
    assert host.core.statistics().refusals == {"busy": 1}


def test_a_release_closes_every_command_of_its_flow(host: Host) -> None:
    host.start("a")
    host.core.order(Order("a", 1, "r0", Release("e0")), PARENT, 1.5)

    effects = host.told("a", "Release", Released())

    assert {s.name: s.error for s in spans(effects)} == {
        "process StartGenerate": "released",
        "process Release": None,
    }
    assert host.core.statistics().open == 0


def test_a_transfer_that_is_told_with_a_release_counts_and_was_no_failure(host: Host) -> None:
    host.core.order(Order("a", 1, "r0", RemoteSend("e0", PROMPT, b"grant")), PARENT, 1.0)
    host.core.order(Order("a", 1, "r0", Release("e0")), PARENT, 1.5)

    moved = Phase("transfer", 1.2, 1.4, {"bytes": 10, "lane": "shm", "seconds": 0.2})
    effects = host.told("a", "Release", Released(), moved)

    assert [(s.name, s.error) for s in spans(effects)] == [
        ("process RemoteSend", None),
        ("kv.transfer", None),
        ("process Release", None),
    ]
    assert host.core.statistics().transfers["shm"].count == 1


def test_a_repeat_of_a_command_that_ended_leaves_nothing_open(host: Host) -> None:
    prepare = Order("a", 1, "r0", PrepRecv("e0", PROMPT))
    host.core.order(prepare, PARENT, 1.0)
    host.told("a", "PrepRecv", Prepared(b"", 0))
    host.engine.repeats = True

    assert host.core.order(prepare, PARENT, 1.5) == []
    assert host.core.statistics().open == 0


def test_a_newer_attempt_takes_the_flow_over(host: Host) -> None:
    host.core.order(Order("a", 1, "r0", PrepRecv("e0", PROMPT)), None, 1.0)
    host.core.order(Order("a", 2, "r1", PrepRecv("e0", PROMPT)), None, 1.5)

    late = host.core.outcomes([Told("a", 1, "PrepRecv", Prepared(b"", 0))], 2.0)
    ours = host.core.outcomes([Told("a", 2, "PrepRecv", Prepared(b"", 0))], 2.0)

    assert late == []
    assert published(ours)[0].subject == "ms.router.r1.event"


def test_an_order_of_an_attempt_that_is_over_is_refused_and_not_carried_out(host: Host) -> None:
    host.core.order(Order("a", 2, "r0", PrepRecv("e0", PROMPT)), None, 1.0)

    effects = host.core.order(Order("a", 1, "r0", Release("e0")), None, 1.5)

    [report] = reports(effects)
    assert isinstance(report.event, Refused)
    assert report.event.reason == "stale_attempt"
    assert len(host.engine.heard) == 1


def test_transfer_events_reach_the_engine(host: Host) -> None:
    event = Arrived("a", 1, 10)

    host.core.news(event, 1.0)

    assert host.engine.heard == [event]


def test_outcomes_of_unknown_flows_are_dropped(host: Host) -> None:
    stray: Any = Told("nobody", 1, "Query", Matched(0, 0, 0))

    assert host.core.outcomes([stray], 1.0) == []


def test_decoding_that_a_suspend_breaks_off_is_told_under_what_it_was_part_of(host: Host) -> None:
    host.start("a")
    suspend = Order("a", 1, "r0", Suspend("e0"))
    host.engine.says.append([])
    host.core.order(suspend, PARENT, now=1.5)
    decoded = Phase("decode", 1.2, 1.6, {"tokens": 3})

    suspended = host.told("a", "Suspend", Suspended(7), decoded)
    finished = host.told("a", "StartGenerate", Finished("length", Usage()))

    assert [span.name for span in spans(suspended)] == ["process Suspend"]
    assert [span.name for span in spans(finished)] == ["process StartGenerate", "decode"]


def test_transfers_are_counted_by_lane_with_what_nothing_hid(host: Host) -> None:
    host.start("a")
    moved: dict[str, str | int | float | bool] = {
        "bytes": 100,
        "lane": "posix",
        "seconds": 0.5,
        "exposed_s": 0.2,
    }
    phases = (Phase("transfer", 1.2, 1.7, moved), Phase("transfer", 1.2, 1.7, moved))

    host.told("a", "StartGenerate", Finished("length", Usage()), *phases)

    assert host.core.statistics().transfers == {"posix": Transferred(2, 200, 1.0, 0.4)}
