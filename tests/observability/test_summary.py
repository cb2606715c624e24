from __future__ import annotations

import pytest

from observability.command import command_spans
from observability.shares import shares
from observability.spans import Span
from observability.summary import NoSpans, TransferTime, flow_summary
from observability.tree import arrange

from .scripted import FLOW, at, begun, cancelled, disaggregated, failed, phase
from .test_command import handled


def labels(spans: list[Span]) -> dict[str, float]:
    return {share.label: round(share.seconds * 1000, 2) for share in shares(arrange(spans))}


def test_the_summary_of_a_disaggregated_request() -> None:
    found = flow_summary(disaggregated())

    assert (found.flow, found.trace_id) == (FLOW, FLOW)
    assert (found.orchestration, found.outcome, found.error) == ("disaggregated", "finished", None)
    assert (found.prompt_tokens, found.completion_tokens) == (1024, 32)
    assert found.duration_s == pytest.approx(1.0, abs=1e-3)
    assert found.ttft_s == pytest.approx(0.47, abs=1e-3)
    assert found.kv_bytes == 47_185_920


def test_states_and_commands_have_their_times() -> None:
    found = flow_summary(disaggregated())

    assert [(s.name, round(s.begin_s, 3), round(s.seconds, 3)) for s in found.states] == [
        ("Preparing", 0, 0.002),
        ("Sending", 0.002, 0.44),
        ("Generating", 0.442, 0.553),
        ("Done", 0.995, 0.005),
    ]
    assert [(c.verb, c.engine, c.attempt, round(c.seconds, 3)) for c in found.commands] == [
        ("PrepRecv", "e1", 1, 0.002),
        ("RemoteSend", "e0", 1, 0.44),
        ("StartGenerate", "e1", 1, 0.553),
    ]


def test_the_transfer_is_told() -> None:
    (transfer,) = flow_summary(disaggregated()).transfers

    assert transfer == TransferTime(
        engine="e0",
        num_bytes=47_185_920,
        num_pages=64,
        num_runs=2,
        lane="posix",
        gb_per_s=0.1179648,
        seconds=0.4,
        exposed_s=0.04,
    )


def test_the_time_to_the_first_token_may_be_given() -> None:
    trace = begun()
    trace.ended("finished", at(9), {"gen_ai.response.time_to_first_chunk": 0.25})

    assert flow_summary(trace.drain()).ttft_s == 0.25


def test_what_is_not_known_is_not_invented() -> None:
    found = flow_summary(cancelled())

    assert found.outcome == "cancelled"
    assert (found.ttft_s, found.prompt_tokens, found.transfers) == (None, None, ())


def test_errors_are_with_the_state_and_the_command() -> None:
    found = flow_summary(failed())

    assert found.error == "transfer_failed: e1 is gone"
    assert [state.error for state in found.states] == [found.error]
    assert [command.error for command in found.commands] == [found.error]


@pytest.mark.parametrize("backwards", [False, True])
def test_of_commands_sent_together_the_one_that_ended_first_comes_first(backwards: bool) -> None:
    trace = begun()
    trace.moved("Preparing", "Prepared", "Sending", at(1))
    trace.ordered("StartGenerate", "d0", 1, at(1))
    trace.ordered("RemoteSend", "p0", 1, at(1))
    trace.answered("RemoteSend", "p0", 1, at(3))
    trace.answered("StartGenerate", "d0", 1, at(9))
    trace.ended("finished", at(9))
    spans = trace.drain()

    found = flow_summary(spans[::-1] if backwards else spans)

    assert [command.verb for command in found.commands] == ["RemoteSend", "StartGenerate"]


def test_a_request_that_still_runs_has_no_outcome() -> None:
    trace = begun()
    trace.moved("Idle", "Submitted", "Preparing", at(0))
    trace.moved("Preparing", "Prepared", "Sending", at(5))

    found = flow_summary(trace.drain())

    assert (found.outcome, found.flow) == ("", FLOW)
    assert [state.name for state in found.states] == ["Preparing"]


def test_nothing_has_no_summary() -> None:
    with pytest.raises(NoSpans):
        flow_summary([])


def test_all_of_the_time_goes_somewhere() -> None:
    found = labels(disaggregated())

    assert found == {
        "decode on e1": 522.0,
        "prefill on e0": 380.0,
        "KV at 0.12 GB/s over posix": 50.0,
        "prefill on e1": 24.0,
        "messages": pytest.approx(8.5, abs=0.1),
        "queue on e0": 7.0,
        "Done": 5.0,
        "StartGenerate on e1": 3.0,
        "PrepRecv on e1": 0.5,
    }


def test_a_transfer_that_is_hidden_costs_nothing() -> None:
    trace = begun()
    send = trace.ordered("RemoteSend", "e0", 1, at(10))
    trace.answered("RemoteSend", "e0", 1, at(100))
    trace.ended("finished", at(100))
    work = handled(phase("prefill", 10, 80), phase("transfer", 20, 100, bytes=8e7))

    found = labels(trace.drain() + command_spans(send, work))

    assert found == {"prefill on e0": 70.0, "KV at 1 GB/s": 20.0, "router": 10.0}


def test_waiting_for_somebody_who_computes_counts_as_computing() -> None:
    trace = begun()
    sending = trace.ordered("RemoteSend", "e0", 1, at(0))
    waiting = trace.ordered("StartGenerate", "e1", 1, at(0))
    trace.answered("RemoteSend", "e0", 1, at(100))
    trace.answered("StartGenerate", "e1", 1, at(100))
    trace.ended("finished", at(100))
    spans = command_spans(sending, handled(phase("prefill", 10, 60)))
    spans += command_spans(waiting, handled(phase("wait", 10, 100), engine="e1"))

    found = labels(trace.drain() + spans)

    assert (found["prefill on e0"], found["wait on e1"]) == (50.0, 40.0)


def test_the_time_of_a_command_without_an_engines_spans_is_the_commands() -> None:
    trace = begun()
    trace.ordered("RemoteSend", "e0", 1, at(0))
    trace.ended("lost", at(10))

    assert labels(trace.drain()) == {"RemoteSend on e0": 10.0}


def test_every_share_is_a_part_of_the_request() -> None:
    found = flow_summary(disaggregated()).shares

    assert sum(share.share for share in found) == pytest.approx(1.0)
    assert [s.seconds for s in found] == sorted((s.seconds for s in found), reverse=True)
