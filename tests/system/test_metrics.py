"""What actors measure, of a whole system at work."""

from __future__ import annotations

import asyncio
import random
from itertools import count

import aiohttp
import pytest

from actors.actor_metrics import bus_points, sink_points
from actors.client import RequestRejected
from actors.clock import monotone
from actors.engine_metrics import engine_points
from actors.metering import Metering, metered
from bus.public import GenerateRequest
from observability import instruments as of
from observability import prometheus
from observability.metrics import Distribution, Instrument, Point
from tests.observability.collectors import decoded, http_metrics
from tests.system.fleet import Fleet, fake_model, fleet
from tests.system.gateway import client, gateway

PROMPT = tuple(random.Random(1).choices(range(1000), k=100))


def engine(system: Fleet, name: str) -> list[Point]:
    member = system.members[name]
    labels = {"engine": name, "model": system.model}
    return engine_points(member.engine.statistics(), member.core.statistics(), labels)


def found(points: list[Point], instrument: Instrument, **labels: str) -> float | Distribution:
    """The one value with these labels among others."""
    (value,) = [
        p.value
        for p in points
        if p.instrument == instrument and labels.items() <= dict(p.labels).items()
    ]
    return value


async def test_engines_tell_of_tokens_pages_and_transfers() -> None:
    async with fleet(fake_model()) as system:
        await system.ask(GenerateRequest(prompt=PROMPT, max_tokens=5))
        await system.settled()

        sender, receiver = engine(system, "p0"), engine(system, "d0")

    assert found(sender, of.TOKENS, phase="prefill") == 99
    assert found(receiver, of.TOKENS, phase="decode") == 4
    assert found(receiver, of.RECEIVED_TOKENS) == 99
    assert found(receiver, of.CACHE_TOKENS, result="miss") == 99
    num_bytes = found(sender, of.TRANSFER_BYTES)
    assert isinstance(num_bytes, int)
    assert num_bytes > 0
    assert found(sender, of.TRANSFERS) == 1
    for points in (sender, receiver):
        owned = [p.value for p in points if p.instrument == of.PAGES]
        assert sum(v for v in owned if not isinstance(v, Distribution)) == 256
        assert all(p.labels["engine"] in ("p0", "d0") for p in points)


async def test_engines_tell_how_many_sequences_their_steps_had() -> None:
    async with fleet(fake_model(), {"e0": "both"}, "data_parallel") as system:
        request = GenerateRequest(prompt=PROMPT, max_tokens=5, n=4)
        async for _ in system.client.generate(system.model, request):
            pass
        await system.settled()

        points = engine(system, "e0")

    sequences = found(points, of.STEP_SEQUENCES)
    assert isinstance(sequences, Distribution)
    assert sequences.count == found(points, of.STEPS)
    name = 'microserve_engine_step_sequences_bucket{engine="e0",model="fake"'
    told = prometheus.text(points)
    assert f'{name},le="2"}} 1\n' in told  # the prompt, computed once
    assert f'{name},le="4"}} {sequences.count}\n' in told  # then the answers together
    assert sequences.sum == 4 * 5  # each row gave one token


async def test_routers_tell_of_requests_transitions_and_refusals() -> None:
    async with fleet(fake_model()) as system:
        await system.ask(GenerateRequest(prompt=PROMPT, max_tokens=5))
        with pytest.raises(RequestRejected):
            await system.ask(GenerateRequest(prompt=()))
        await system.settled()

        points = system.host.points()

    about = {"router": "r0", "microserve.orchestration": "disaggregated"}
    duration = found(points, of.REQUEST_DURATION, **about)
    per_token = found(points, of.PER_TOKEN, **about)
    assert isinstance(duration, Distribution)
    assert isinstance(per_token, Distribution)
    assert (duration.count, per_token.count) == (1, 1)
    assert found(points, of.OUTPUT_TOKENS) == 5
    assert found(points, of.ENDED, outcome="finished") == 1
    assert found(points, of.REFUSALS, by="intake", reason="bad_request") == 1
    move = {"before": "Preparing", "event": "Prepared", "orchestration": "disaggregated"}
    assert found(points, of.TRANSITIONS, **move) == 1


async def test_every_instrument_is_measured_by_an_actor() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        await ai.completions.create(model="fake", prompt=list(PROMPT), max_tokens=5)
        with pytest.raises(RequestRejected):
            await system.ask(GenerateRequest(prompt=()))
        await system.settled()

        points = [*host.points(), *system.host.points(), *engine(system, "p0")]
        points += [*bus_points(host.bus.statistics()), *sink_points(system.spans.statistics())]

    measured = {p.instrument.name for p in points}
    never_here = {of.ENGINE_REFUSALS.name}  # the engines had nothing to refuse
    assert {instrument.name for instrument in of.ALL} - measured == never_here


async def test_prometheus_reads_an_actors_own_page() -> None:
    config = Metering("microserve-engine-e0", "e0", address=("127.0.0.1", 0))

    async with (
        metered(config, lambda: [Point(of.STEPS, 3)], monotone()) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as answer,
    ):
        text = await answer.text()

    assert answer.headers["Content-Type"] == prometheus.CONTENT_TYPE
    assert "microserve_engine_steps_total 3\n" in text


async def test_an_actor_whose_points_cannot_be_made_goes_on_and_tells_the_next_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = count()

    def points() -> list[Point]:
        return [Point(of.STEPS, 3 / next(asked))]  # there is none for zero

    with http_metrics() as collector:
        config = Metering("microserve-engine-e0", "e0", collector.endpoint, interval_s=0.01)

        async with metered(config, points, monotone()):
            (told,) = await asyncio.to_thread(collector.receive, 1)

    assert told.metric.name == of.STEPS.name
    assert "e0: what it measures could not be told" in caplog.text


async def test_an_actor_that_ends_has_sent_its_newest_points() -> None:
    with http_metrics() as collector:
        config = Metering("microserve-engine-e0", "e0", collector.endpoint, interval_s=3600)

        async with metered(config, lambda: [Point(of.STEPS, 3)], monotone()):
            pass
        (last,) = await asyncio.to_thread(collector.receive, 1)

    assert last.resource["service.instance.id"] == "e0"
    assert last.metric.name == "microserve.engine.steps"
    assert decoded(last.metric.sum.data_points[0].attributes) == {}


async def test_nobody_measures_where_nobody_wants_to_know() -> None:
    def never() -> list[Point]:
        raise AssertionError("asked for points")

    async with metered(Metering("s", "e0"), never, monotone()) as url:
        assert url == ""
