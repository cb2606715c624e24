"""Traces of a whole system as a real receiver decodes them, over both protocols: for every
strategy, a cancel, a failure and a migration.

The fleet is real but for model, broker and network; its spans go through the exporters that actors
use, to receivers that decode OpenTelemetry's own protobufs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Proto
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from bus.fleet import Role
from bus.public import Delta, Done, GenerateRequest, Welcome
from bus.subjects import Subjects
from observability.otlp import OtlpSink
from observability.sampling import Sampling
from observability.sink import OtlpProtocol
from observability.spans import Span, SpanContext, traceparent
from orchestrations.registry import names
from tests.observability.collectors import (
    Opener,
    Received,
    decoded,
    grpc_collector,
    http_collector,
)
from tests.system.fleet import PAIR, Fleet, fake_model, fleet
from tests.system.gateway import client, gateway

BOTH: list[tuple[OtlpProtocol, Opener]] = [
    ("http/protobuf", http_collector),
    ("grpc", grpc_collector),
]
FOUR: Mapping[str, Role] = {"p0": "prefill", "p1": "prefill", "d0": "decode", "d1": "decode"}
CALLER = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
PROMPT = tuple(random.Random(7).choices(range(1000), k=150))


class Trace:
    """What a backend knows of one trace."""

    def __init__(self, received: Sequence[Received]) -> None:
        self.received = received
        self.by_id = {r.span.span_id: r for r in received}
        assert len(self.by_id) == len(received), "a span came twice"

    def named(self, name: str) -> list[Proto]:
        found = [r.span for r in self.received if r.span.name == name]
        return sorted(found, key=lambda s: s.start_time_unix_nano)

    def one(self, name: str) -> Proto:
        (span,) = self.named(name)
        return span

    def parent(self, span: Proto) -> Proto | None:
        found = self.by_id.get(span.parent_span_id)
        return found.span if found else None

    def service(self, span: Proto) -> str:
        return self.by_id[span.span_id].service

    def check(self) -> None:
        """One trace, one root, no parent missing, nobody ends before he began; every command has
        its two ends and lies below a state, every phase below its command."""
        root = self.one("microserve.request")
        for received in self.received:
            span, parent = received.span, self.parent(received.span)
            assert span.trace_id == root.trace_id
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            if parent is None:
                assert span is root, f"{span.name} has no parent"
                continue
            assert span.start_time_unix_nano >= parent.start_time_unix_nano - 1_000_000, span.name
            self._check_place(span, parent, root)

    def _check_place(self, span: Proto, parent: Proto, root: Proto) -> None:
        told = decoded(span.attributes)
        if span.kind == Proto.SPAN_KIND_PRODUCER:
            assert told["messaging.operation.type"] == "send"
            assert parent is root or "microserve.state" in decoded(parent.attributes)
        elif span.kind == Proto.SPAN_KIND_CONSUMER:
            verb = span.name.removeprefix("process ")
            if parent is root:  # a farewell to an engine that is taken for lost
                assert verb == "Release"
                return
            assert parent.name == f"send {verb}"
            assert self.service(span) == f"microserve-engine-{told['microserve.engine']}"
            assert decoded(parent.attributes)["microserve.engine"] == told["microserve.engine"]
        elif "microserve.phase" in told:
            assert parent.kind == Proto.SPAN_KIND_CONSUMER
        else:
            assert parent is root, span.name


def told(spans: Sequence[Span], protocol: OtlpProtocol, opener: Opener) -> Trace:
    """The spans of a flow after their journey."""
    with opener() as collector:
        sink = OtlpSink(collector.endpoint, protocol, "test")
        sink.record(spans)
        sink.close()
        received = collector.receive(len(spans))
    return Trace(received)


async def both(spans: Sequence[Span]) -> list[Trace]:
    """As it arrives by HTTP, and by gRPC."""
    return [await asyncio.to_thread(told, spans, *way) for way in BOTH]


async def traced(system: Fleet, request: GenerateRequest) -> list[Span]:
    """Its spans, when every engine has told its part."""
    await system.ask(request)
    await system.settled()
    return system.spans.spans


def events(span: Proto) -> list[tuple[str, str, str]]:
    found = [decoded(event.attributes) for event in span.events]
    return [(str(e["before"]), str(e["event"]), str(e["after"])) for e in found]


@pytest.mark.parametrize("orchestration", names())
async def test_every_strategys_requests_are_whole_trees_over_both_protocols(
    orchestration: str,
) -> None:
    async with fleet(fake_model(), FOUR, orchestration) as system:
        spans = await traced(system, GenerateRequest(prompt=PROMPT, max_tokens=4, engine="d1"))

    for trace in await both(spans):
        trace.check()

        root = trace.one("microserve.request")
        about = decoded(root.attributes)
        assert about["microserve.orchestration"] == orchestration
        assert about["microserve.outcome"] in ("finished", "kept")
        assert about["gen_ai.usage.input_tokens"] == len(PROMPT)
        walk = events(root)
        assert walk[0][:2] == ("Idle", "Submitted")
        assert walk[-1][2] == "Done"
        assert [a[2] for a in walk[:-1]] == [b[0] for b in walk[1:]]
        decision = decoded(root.events[0].attributes)
        assert decision["microserve.candidates"] == ["d0", "d1", "p0", "p1"]
        scores = decision["microserve.scores"]
        assert isinstance(scores, list)
        assert scores[0].startswith("d0 (decode): 0.150 s, load 0, cached 0, free ")
        chosen = decision["microserve.chosen"]
        assert isinstance(chosen, list)
        assert set(chosen) <= set(FOUR)
        sent = [r.span for r in trace.received if r.span.kind == Proto.SPAN_KIND_PRODUCER]
        processed = [r.span for r in trace.received if r.span.kind == Proto.SPAN_KIND_CONSUMER]
        assert len(sent) == len(processed) >= 1


async def test_a_disaggregated_requests_phases_and_transfer_are_told() -> None:
    async with fleet(fake_model()) as system:
        spans = await traced(system, GenerateRequest(prompt=PROMPT * 4, max_tokens=4))

    for trace in await both(spans):
        by_engine = {trace.service(span) for span in trace.named("prefill")}
        assert by_engine == {"microserve-engine-p0", "microserve-engine-d0"}
        chunks = [s for s in trace.named("prefill") if trace.service(s).endswith("p0")]
        assert len(chunks) == 2  # 599 tokens, of which a step takes 512
        tokens = [decoded(s.attributes)["microserve.tokens"] for s in chunks]
        assert sum(t for t in tokens if isinstance(t, int)) == 599
        assert decoded(trace.one("decode").attributes)["microserve.tokens"] == 3
        assert {s.name for s in map(trace.parent, trace.named("queue")) if s} == {
            "process RemoteSend",
            "process StartGenerate",
        }
        moved = decoded(trace.one("kv.transfer").attributes)
        assert moved["microserve.kv.lane"] == "memory"
        assert moved["microserve.kv.pages"] == 150
        assert isinstance(moved["microserve.kv.runs"], int)
        assert isinstance(moved["microserve.kv.bytes"], int)
        seconds, hidden, exposed, speed = (
            moved[f"microserve.kv.{name}"]
            for name in ("seconds", "seconds_hidden", "seconds_exposed", "gb_per_s")
        )
        assert isinstance(seconds, float)
        assert isinstance(hidden, float)
        assert isinstance(exposed, float)
        assert isinstance(speed, float)
        assert hidden + exposed == pytest.approx(seconds)
        assert speed > 0


async def ask_until(
    system: Fleet, request: GenerateRequest, then: Callable[[str, int], object]
) -> Done | None:
    """``then`` is told of the flow and how many tokens there are; True breaks off."""
    flow, count = "", 0
    async with aclosing(system.client.generate(system.model, request)) as messages:
        async for message in messages:
            if isinstance(message, Welcome):
                flow = message.flow
            if isinstance(message, Delta):
                count += len(message.tokens)
                if then(flow, count):
                    return None
            if isinstance(message, Done):
                return message
    return None


async def test_a_cancel_is_seen_in_the_root_and_in_the_commands_it_ended() -> None:
    async with fleet(fake_model(step_s=0.001)) as system:
        request = GenerateRequest(prompt=PROMPT, max_tokens=500)
        await ask_until(system, request, lambda _, count: count >= 5)
        await system.settled()
        spans = system.spans.spans

    for trace in await both(spans):
        trace.check()
        root = trace.one("microserve.request")
        assert decoded(root.attributes)["microserve.outcome"] == "cancelled"
        assert root.status.code != Status.STATUS_CODE_ERROR  # it is what the user wanted
        assert ("Generating", "Cancelled", "Done") in events(root)
        broken = trace.one("process StartGenerate")
        assert broken.status.message == "released"
        released = trace.named("process Release")
        assert {trace.service(span) for span in released} >= {"microserve-engine-d0"}


async def test_a_lost_engine_is_an_error_and_what_goes_on_is_linked_to_it() -> None:
    async with fleet(fake_model(step_s=0.001), FOUR, "resilient") as system:
        victims: list[str] = []

        def kill(_: str, count: int) -> None:
            if count >= 5 and not victims:
                (flow,) = system.router.flows.values()
                victims.extend(engine for _, engine in flow.owed)
                system.members[victims[0]].kill()

        done = await ask_until(system, GenerateRequest(prompt=PROMPT, max_tokens=60), kill)
        await system.ended(*victims)
        spans = system.spans.spans
        del system.members[victims[0]]

    for trace in await both(spans):
        assert done is not None
        assert done.reason == "length"
        trace.check()
        root = trace.one("microserve.request")
        assert decoded(root.attributes)["microserve.outcome"] == "finished"
        lost = [e for e in root.events if decoded(e.attributes)["event"] == "EngineLost"]
        assert decoded(lost[0].attributes)["microserve.engine"] == victims[0]
        failed = [s for s in trace.named("send StartGenerate") if s.status.message]
        assert failed[0].status.message == f"{victims[0]} was lost"
        assert failed[0].status.code == Status.STATUS_CODE_ERROR
        retries = [r.span for r in trace.received if r.span.links]
        assert retries
        for retry in retries:
            earlier = trace.by_id[retry.links[0].span_id].span
            assert decoded(retry.links[0].attributes)["microserve.link"] == "previous attempt"
            assert earlier.start_time_unix_nano <= retry.start_time_unix_nano


async def test_a_migration_is_linked_to_where_the_request_was() -> None:
    async with fleet(fake_model(step_s=0.001), PAIR, "migrate_running") as system:
        wishes: list[asyncio.Task[None]] = []

        def move(flow: str, count: int) -> None:
            if count >= 20 and not wishes:
                wish = system.client.bus.publish(Subjects().move(flow), b"p0")
                wishes.append(asyncio.ensure_future(wish))

        await ask_until(system, GenerateRequest(prompt=PROMPT, max_tokens=200), move)
        await system.ended()
        async with asyncio.timeout(10):
            while len([s for s in system.spans.spans if s.name == "decode"]) < 2:  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0)
        spans = system.spans.spans

    for trace in await both(spans):
        trace.check()
        directed = [
            decoded(e.attributes)
            for e in trace.one("microserve.request").events
            if decoded(e.attributes)["event"] == "Directed"
        ]
        assert [d["microserve.engine"] for d in directed] == ["p0"]
        linked = [r.span for r in trace.received if r.span.links]
        assert linked
        engines = {trace.service(span) for span in trace.named("decode")}
        assert engines == {"microserve-engine-p0", "microserve-engine-d0"}


async def test_a_flow_that_waits_for_credit_says_so() -> None:
    async with fleet(fake_model(num_pages=60, step_s=0.001), {"x0": "both"}) as system:
        first = GenerateRequest(prompt=PROMPT, max_tokens=40)
        second = GenerateRequest(prompt=PROMPT[::-1], max_tokens=2)
        begun = asyncio.create_task(system.ask(first))
        while not system.router.flows:  # noqa: ASYNC110 - a router tells nobody
            await asyncio.sleep(0)
        await system.ask(second)
        await begun
        await system.settled()
        waited = [s for s in system.spans.spans if s.name == "Waiting"]
        flow = str(waited[0].attributes["microserve.flow"])
        spans = [s for s in system.spans.spans if s.attributes["microserve.flow"] == flow]

    for trace in await both(spans):
        trace.check()
        waiting = trace.one("Waiting")
        assert decoded(waiting.attributes)["microserve.waits_for"] == "credit"
        assert decoded(waiting.attributes)["microserve.ahead"] == 0
        assert waiting.end_time_unix_nano > waiting.start_time_unix_nano


async def test_a_gateways_request_is_above_its_flow_and_below_its_caller() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        await ai.completions.create(
            model="fake", prompt=list(PROMPT), max_tokens=3, extra_headers=traceparent(CALLER)
        )
        await system.settled()
        spans = system.spans.spans

    trace = await asyncio.to_thread(told, spans, "http/protobuf", http_collector)

    root = trace.one("microserve.request")
    above = trace.parent(root)
    assert above is not None
    assert above.name == "POST /v1/completions"
    assert above.parent_span_id.hex() == CALLER.span_id
    assert above.trace_id.hex() == CALLER.trace_id
    assert trace.service(above) == "microserve-gateway"
    about = decoded(above.attributes)
    assert about["http.response.status_code"] == 200
    assert about["gen_ai.request.model"] == "fake"
    assert about["gen_ai.usage.output_tokens"] == 3
    assert about["microserve.flow"] == decoded(root.attributes)["microserve.flow"]
    assert all(r.span.trace_id.hex() == CALLER.trace_id for r in trace.received)


async def test_nothing_is_recorded_of_a_trace_that_is_not_sampled() -> None:
    async with fleet(fake_model(), sampling=Sampling(0.0)) as system:
        await traced(system, GenerateRequest(prompt=PROMPT, max_tokens=3))

        assert system.spans.spans == []


async def test_of_a_slow_flow_that_was_not_sampled_the_router_records_its_part() -> None:
    async with fleet(fake_model(), sampling=Sampling(0.0, slower_than_s=0.0)) as system:
        await system.ask(GenerateRequest(prompt=PROMPT, max_tokens=3))
        await system.ended()
        spans = system.spans.spans

    assert {span.service for span in spans} == {"microserve-router"}
    assert "send RemoteSend" in [span.name for span in spans]
