from __future__ import annotations

import pytest

from engine.outcomes import Phase
from observability.command import MAX_PHASES, Handled, command_spans
from observability.spans import Span, SpanContext

from .scripted import CALLER, FLOW, at, disaggregated, phase


def handled(*phases: Phase, error: str | None = None, engine: str = "e0") -> Handled:
    return Handled(FLOW, 1, "RemoteSend", engine, at(10), at(100), phases, error=error)


def transfer(**attributes: str | float) -> Span:
    _, span = command_spans(CALLER, handled(phase("transfer", 20, 60, **attributes)))
    return span


def test_the_engines_span_is_below_the_routers() -> None:
    (span,) = command_spans(CALLER, handled())

    assert span.parent == CALLER
    assert span.context.trace_id == CALLER.trace_id
    assert (span.name, span.kind, span.service) == (
        "process RemoteSend",
        "consumer",
        "microserve-engine-e0",
    )
    assert (span.begin_s, span.end_s) == (at(10), at(100))


def test_without_a_parent_the_spans_join_the_flows_own_trace() -> None:
    command, queue = command_spans(None, handled(phase("queue", 10, 20)))

    assert command.parent is None
    assert command.context.trace_id == FLOW
    assert queue.parent == command.context


def test_nothing_is_made_for_a_trace_that_is_not_sampled() -> None:
    unsampled = SpanContext(CALLER.trace_id, CALLER.span_id, sampled=False)

    assert command_spans(unsampled, handled(phase("queue", 10, 20))) == []


def test_every_phase_is_a_child_with_its_times() -> None:
    command, *phases = command_spans(
        CALLER, handled(phase("queue", 10, 20), phase("prefill", 20, 90, tokens=512))
    )

    assert [(s.name, s.begin_s, s.end_s) for s in phases] == [
        ("queue", at(10), at(20)),
        ("prefill", at(20), at(90)),
    ]
    assert {s.parent for s in phases} == {command.context}
    assert phases[1].attributes["microserve.tokens"] == 512


def test_a_transfer_says_what_moved_how_fast_and_what_was_hidden() -> None:
    span = transfer(
        bytes=2_000_000, pages=4, runs=1, lane="cma", seconds=0.04, exposed_s=0.01, write_s=0.02
    )

    assert span.name == "kv.transfer"
    told = {name: v for name, v in span.attributes.items() if name.startswith("microserve.kv.")}
    assert told == {
        "microserve.kv.bytes": 2_000_000,
        "microserve.kv.pages": 4,
        "microserve.kv.runs": 1,
        "microserve.kv.lane": "cma",
        "microserve.kv.seconds": 0.04,
        "microserve.kv.seconds_writing": 0.02,
        "microserve.kv.gb_per_s": pytest.approx(0.1),
        "microserve.kv.seconds_hidden": pytest.approx(0.03),
        "microserve.kv.seconds_exposed": 0.01,
    }


def test_a_transfer_that_only_has_bytes_is_measured_by_its_span() -> None:
    span = transfer(bytes=40_000_000)

    assert span.attributes["microserve.kv.gb_per_s"] == pytest.approx(1.0, rel=1e-4)
    assert span.attributes["microserve.kv.seconds_hidden"] == 0


def test_a_transfer_without_time_has_no_speed() -> None:
    assert "microserve.kv.gb_per_s" not in transfer(bytes=1, seconds=0.0).attributes


def test_no_more_can_be_exposed_than_the_transfer_took() -> None:
    span = transfer(seconds=0.02, exposed_s=0.5)

    assert span.attributes["microserve.kv.seconds_exposed"] == 0.02
    assert span.attributes["microserve.kv.seconds_hidden"] == 0


def test_the_commands_span_covers_all_its_phases() -> None:
    command, *_ = command_spans(CALLER, handled(phase("queue", 5, 20), phase("decode", 20, 120)))

    assert (command.begin_s, command.end_s) == (at(5), at(120))


def test_an_error_is_the_commands() -> None:
    command, queue = command_spans(CALLER, handled(phase("queue", 10, 20), error="busy: no pages"))

    assert (command.error, queue.error) == ("busy: no pages", None)


def test_a_repeat_makes_the_same_ids_and_another_engine_others() -> None:
    def ids(of: Handled) -> set[str]:
        return {span.context.span_id for span in command_spans(CALLER, of)}

    one = handled(phase("queue", 10, 20))

    assert ids(one) == ids(one)
    assert not ids(one) & ids(handled(phase("queue", 10, 20), engine="e1"))


def test_many_chunks_become_one_span_with_their_sum() -> None:
    chunks = [phase("prefill", 10 + n, 11 + n, tokens=8) for n in range(MAX_PHASES)]

    _, *phases = command_spans(CALLER, handled(*chunks, phase("decode", 60, 90)))

    assert [span.name for span in phases] == ["prefill", "decode"]
    assert phases[0].attributes["microserve.tokens"] == 8 * MAX_PHASES
    assert phases[0].attributes["microserve.merged"] == MAX_PHASES
    assert (phases[0].begin_s, phases[0].end_s) == (at(10), at(10 + MAX_PHASES))


def test_phases_that_cannot_be_merged_are_dropped_and_counted() -> None:
    names = ["prefill", "wait"] * MAX_PHASES

    command, *phases = command_spans(CALLER, handled(*(phase(name, 10, 11) for name in names)))

    assert len(phases) == MAX_PHASES
    assert command.attributes["microserve.dropped_phases"] == MAX_PHASES


def test_every_span_names_its_flow_so_that_it_can_be_searched() -> None:
    assert {span.attributes["microserve.flow"] for span in disaggregated()} == {FLOW}
