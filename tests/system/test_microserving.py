"""The paper's interface: an HTTP client plays router, on a whole fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from actors.gateway.commanding import IDLE_S
from tests.system.fleet import Fleet, fake_model, fleet
from tests.system.gateway import gateway
from tests.system.test_gateway import PROMPT, expected


class Caller:
    """As the paper's router calls: one address for each engine."""

    def __init__(self, system: Fleet, url: str, session: aiohttp.ClientSession) -> None:
        self.system, self._url, self._session = system, url, session

    async def call(self, engine: str, verb: str, **given: Any) -> tuple[int, Any]:
        body = {"model": "fake", "prompt": PROMPT, "max_tokens": 5, "temperature": 0, **given}
        url = f"{self._url}/engines/{engine}/microserving/{verb}"
        async with self._session.post(url, json=body) as answer:
            return answer.status, await answer.json()

    async def until(self, engine: str, sign: str) -> None:
        """This of the engine's statistics is not zero."""
        statistics = self.system.members[engine].engine.statistics
        async with asyncio.timeout(5):
            while not getattr(statistics(), sign):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def caller(step_s: float = 0.0, idle_s: float = IDLE_S) -> AsyncIterator[Caller]:
    async with (
        fleet(fake_model(step_s=step_s)) as system,
        gateway(system, idle_s=idle_s) as host,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(system, host.url, session)
        await system.idle()


async def test_three_calls_make_the_answer_of_one_engine_and_send_what_was_not_matched() -> None:
    async with caller() as router:
        _, prepared = await router.call("d0", "prep_recv", end=-1)
        status, sent = await router.call(
            "p0",
            "remote_send",
            kv_addr_info=prepared["kv_addr_info"],
            recv_rank=0,
            begin=prepared["prefix_matched_length"],
            end=-1,
        )
        _, answer = await router.call("d0", "start_generate", begin=-1)

        assert (prepared["prompt_length"], prepared["prefix_matched_length"]) == (len(PROMPT), 0)
        assert (status, sent["num_bytes"] > 0) == (200, True)
        assert answer["choices"][0]["text"] == expected(5)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == len(PROMPT) - 1


async def test_generation_alone_is_data_parallel() -> None:
    async with caller() as router:
        _, answer = await router.call("p0", "start_generate", kv_window_begin=0)

        assert answer["choices"][0]["text"] == expected(5)


@pytest.mark.parametrize(
    ("engine", "verb", "given", "status", "words"),
    [
        ("x9", "prep_recv", {"end": -1}, 404, "no engine 'x9'"),
        ("d0", "prep_recv", {"end": 99}, 400, "end is 99; the prompt has 20 tokens"),
        ("d0", "prep_recv", {"end": -99}, 400, "end is -99"),
        ("p0", "remote_send", {"begin": 0}, 400, "kv_addr_info is missing"),
        ("p0", "remote_send", {"kv_addr_info": "AAAA"}, 400, "not what prep_recv gave"),
        ("d0", "start_generate", {"flow": "gone"}, 404, "is over"),
        ("d0", "prep_recv", {"temperature": -1}, 400, "temperature is -1"),
    ],
)
async def test_what_cannot_be_is_refused_and_leaves_nothing(
    engine: str, verb: str, given: dict[str, Any], status: int, words: str
) -> None:
    async with caller() as router:
        answered, body = await router.call(engine, verb, **given)

        assert (answered, words in body["error"]["message"]) == (status, True), body


@pytest.mark.parametrize(("is_prepared", "sign"), [(True, "expecting"), (False, "decode_tokens")])
async def test_a_client_that_goes_away_in_a_call_releases_its_flow_everywhere(
    is_prepared: bool, sign: str
) -> None:
    async with caller(step_s=0.02) as router:
        if is_prepared:
            await router.call("d0", "prep_recv", end=-1)
        asking = asyncio.create_task(router.call("d0", "start_generate", max_tokens=900))
        await router.until("d0", sign)

        asking.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asking
        await router.system.idle()  # no page is held, and nothing goes on
        statistics = router.system.members["d0"].engine.statistics()
        assert (statistics.running, statistics.expecting) == (0, 0)


async def test_a_flow_that_nobody_goes_on_with_is_swept_and_its_pages_are_free() -> None:
    async with caller(idle_s=0.05) as router:
        _, prepared = await router.call("d0", "prep_recv", end=-1)
        await router.system.idle()  # the grant is given back: it would hold for 30 s

        status, refused = await router.call("d0", "start_generate", flow=prepared["flow"])

        assert (status, refused["error"]["code"]) == (404, "no_such_flow")


async def test_a_call_that_is_made_twice_leaves_the_first_one_alone() -> None:
    async with caller(step_s=0.02) as router:
        _, prepared = await router.call("d0", "prep_recv", end=-1)
        given = {"flow": prepared["flow"], "kv_addr_info": prepared["kv_addr_info"]}
        first = asyncio.create_task(router.call("d0", "start_generate", max_tokens=9, **given))
        await router.until("d0", "expecting")

        status, again = await router.call("d0", "start_generate", max_tokens=9, **given)
        await router.call("p0", "remote_send", end=-1, **given)
        _, answer = await first

        assert (status, again["error"]["code"]) == (409, "out_of_order")
        assert answer["choices"][0]["text"] == expected(9)


async def test_a_call_that_is_refused_ends_the_others_of_its_flow() -> None:
    async with caller() as router:
        _, prepared = await router.call("d0", "prep_recv", end=-1)
        asking = asyncio.create_task(router.call("d0", "start_generate", flow=prepared["flow"]))
        await router.until("d0", "expecting")

        refused, _ = await router.call(
            "p0", "remote_send", kv_addr_info=prepared["kv_addr_info"], begin=9, end=3
        )
        async with asyncio.timeout(10):
            status, answer = await asking

        assert refused == 400
        assert (status, answer["error"]["code"]) == (404, "no_such_flow")


async def test_an_engine_that_is_lost_ends_the_calls_that_wait_for_it() -> None:
    async with caller(step_s=0.02, idle_s=1.0) as router:
        asking = asyncio.create_task(router.call("d0", "start_generate", max_tokens=900))
        await router.until("d0", "decode_tokens")

        router.system.members.pop("d0").kill()
        async with asyncio.timeout(20):
            status, answer = await asking

        assert (status, answer["error"]["code"]) == (503, "no_engine")


@pytest.mark.parametrize(("engine", "verb"), [("p0", "remote_send"), ("d0", "start_generate")])
async def test_a_flow_goes_on_with_its_own_prompt_only(engine: str, verb: str) -> None:
    async with caller(idle_s=1.0) as router:
        _, prepared = await router.call("d0", "prep_recv", end=-1)
        given = {"flow": prepared["flow"], "kv_addr_info": prepared["kv_addr_info"]}

        status, refused = await router.call(engine, verb, prompt="Another one", **given)

        assert (status, refused["error"]["param"]) == (400, "prompt")
