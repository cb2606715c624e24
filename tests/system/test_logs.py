"""What the log says of a flow."""

from __future__ import annotations

import logging

import pytest

from bus.public import Done, GenerateRequest
from observability.spans import SpanContext, traceparent
from tests.system.fleet import fake_model, fleet

CALLER = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


async def test_a_flow_that_ended_is_a_line_with_its_id_and_that_of_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = GenerateRequest(prompt=(1, 2, 3), max_tokens=4)

    with caplog.at_level(logging.INFO, "microserve.router"):
        async with fleet(fake_model()) as system:
            headers = traceparent(CALLER)
            async for message in system.client.generate(system.model, request, headers):
                if isinstance(message, Done):
                    flow = message.flow
            await system.settled()

    (line,) = [r for r in caplog.records if "disaggregated, finished after" in r.message]
    assert line.message.endswith("4 tokens")
    assert line.about == {"flow": flow, "trace": CALLER.trace_id}  # type: ignore[attr-defined]
