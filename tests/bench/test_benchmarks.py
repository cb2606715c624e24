"""Every benchmark of processes runs, in a short form, and finds what it promises. None is timed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from bench import hop, live, pages, tokens, tracing, transport, transport_faults, transport_growth
from bench.crew import Crew, PartyFailed, cpu_s
from bench.parties.conversation import Ready
from bench.parties.fleet import ActorConfig
from bench.parties.streams import Collect, Collected, Tally, WrongToken
from bench.report import Result
from bus.server import EmbeddedServer

SHORT_HOP = hop.Plan(num_rounds=1, num_hops=5, num_in_flight_hops=70)
SHORT_LIVE = live.Plan(num_engines=3, num_flows=4, warm_s=0.1, seconds=0.5, with_page=False)
SHORT_TRACING = tracing.Plan(seconds=0.0, num_flows=20, num_tokens=4, export_every_s=0.05)
SHORT_TOKENS = tokens.Plan(
    num_streams=3, num_rounds=1, num_steps=4, num_paced_steps=2, paced_interval_s=0.001
)


def test_the_transport_is_measured_without_its_peer_too() -> None:
    plan = transport.Plan(
        repeats=1, idle_s=0.01, loop_s=0.01, series=1, cases=("1m_64k",), tcp_cases=("16m_64k",)
    )

    result = transport.measure(plan, nixl_python=None)

    assert set(result.ratios) == set(result.targets) == {"idle_cpu_cores"}
    assert {"put_1m_64k_vs_copy", "put_tcp_16m_64k_gb_per_s"} <= set(result.figures)
    assert "NIXL_PYTHON" in str(result.figures["nixl"])
    numbers = [figure for figure in result.figures.values() if not isinstance(figure, str)]
    assert all(math.isfinite(number) for number in numbers)


def test_faults_in_real_transfers_leak_nothing_and_spoil_nothing() -> None:
    plan = transport_faults.Plan(faults=(("shared", 9),), seed=3, lease_s=2.0, bound_s=30.0)

    result = transport_faults.measure(plan)

    assert result.ratios == {"shared_wrong_transfers": 0, "shared_transfers_without_end": 0}
    assert sum(result.figures[kind] == 1 for kind in result.figures) == 9


def test_transfers_are_counted_by_size_and_by_how_many_there_are() -> None:
    plan = transport_growth.Plan(
        sizes=(1024,), at_once=(1, 3), peers=(1,), repeats=3, bursts=1, num_small=20
    )

    result = transport_growth.measure(plan)

    assert set(result.ratios) == {"resident_growth"}
    wanted = {"transfer_1k_p99_us", "transfer_1k_cpu_s_per_gib"}
    wanted |= {"1_peers_3_at_once_p50_us", "1_peers_3_at_once_cpu_s_per_gib"}
    assert wanted <= set(result.figures)
    numbers = [figure for figure in result.figures.values() if not isinstance(figure, str)]
    assert all(math.isfinite(number) and number >= 0 for number in numbers)


@pytest.mark.parametrize(
    ("measure", "ratios"),
    [
        (
            lambda: hop.measure(SHORT_HOP),
            {"command_to_event_vs_raw", "untraced_command_to_event_vs_raw"},
        ),
        (lambda: live.measure(SHORT_LIVE), {"router_cpu_watched_vs_not"}),
        (lambda: tracing.measure(SHORT_TRACING), {"none", "head_1_in_10", "tail", "all"}),
        (
            lambda: tokens.measure(SHORT_TOKENS),
            {
                "cpu_per_token_vs_sse",
                "cpu_per_token_inboxes_vs_sse",
                "paced_cpu_per_token_vs_sse",
                "paced_cpu_per_token_inboxes_vs_sse",
            },
        ),
    ],
    ids=["hop", "live", "tracing", "tokens"],
)
def test_a_benchmark_finds_the_ratios_it_promises_and_leaves_no_process(
    measure: Callable[[], Coroutine[Any, Any, Result]], ratios: set[str]
) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}

    result = asyncio.run(measure())

    assert set(result.ratios) == ratios
    assert set(result.targets) <= ratios
    numbers = [*result.ratios.values(), *result.figures.values()]
    assert all(math.isfinite(n) and n > 0 for n in numbers if not isinstance(n, str))
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert after <= before


async def test_a_stream_that_nobody_serves_is_no_reader() -> None:
    async with RawTestServer(_nothing_here) as server:
        with pytest.raises(live.NotWatched, match="answered 404"):
            await live.read_stream(str(server.make_url("")), 30.0, [])


async def _nothing_here(request: web.BaseRequest) -> web.Response:
    return web.Response(status=404)


def test_the_benchmark_of_pages_compares_every_operation_beside_much_and_beside_little() -> None:
    plan = pages.Plan(few_sequences=2, many_sequences=5, few_pages=400, many_pages=500, num_times=3)

    result = pages.measure(plan)

    assert set(result.targets) == set(result.ratios)
    assert len(result.ratios) == 2 * 6 + 2
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in result.ratios.values())


async def test_a_party_that_cannot_begin_is_reported_by_name() -> None:
    async with Crew() as crew:
        with pytest.raises(PartyFailed, match="no_such_party"):
            await crew.start("no_such_party", Ready())


async def test_a_busy_party_leaves_when_the_benchmark_is_gone() -> None:
    with EmbeddedServer() as server:
        async with Crew() as crew:
            router = await crew.start("tokens_router", ActorConfig(server.url, ""))
            await router.ask(Collect(1), Ready)

    assert router.exit_code == 0


async def test_the_cpu_clock_of_a_process_only_grows() -> None:
    pid = psutil.Process().pid
    first = cpu_s(pid)
    sum(range(10_000))

    assert 0 < first < cpu_s(pid)


# --- the check of the tokens --------------------------------------------------------------------


async def test_a_tally_is_complete_with_the_last_token_expected() -> None:
    tally = Tally()
    tally.expect(3)
    for number, offset in ((0, 0), (5, 0), (0, 1)):
        tally.token(number, offset, ((number + offset) % 1000,))

    assert isinstance(await tally.collected(), Collected)


@pytest.mark.parametrize(
    ("offset", "tokens"),
    [(2, (9,)), (0, (7,)), (1, (9,)), (1, ()), (1, (8, 9))],
    ids=["lost", "doubled", "someone else's", "empty", "too many"],
)
async def test_a_wrong_token_spoils_the_collection(offset: int, tokens: tuple[int, ...]) -> None:
    tally = Tally()
    tally.expect(10)
    tally.token(7, 0, (7,))
    tally.token(7, offset, tokens)

    with pytest.raises(WrongToken, match="stream 7"):
        await tally.collected()
