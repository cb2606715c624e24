"""What the gateway tells the live page, from a whole fleet in one process."""

from __future__ import annotations

import asyncio

import aiohttp

from actors.gateway.live import ASSETS, PAGE
from bus.interface import Message
from bus.memory import MemoryBus
from bus.public import GenerateRequest
from tests.system.fleet import fake_model, fleet
from tests.system.gateway import gateway
from tests.system.watching import fetched, watching

PROMPT = tuple(range(40, 60))
SLOW = fake_model(step_s=0.05)


def asked(num_tokens: int = 4, orchestration: str = "disaggregated") -> GenerateRequest:
    return GenerateRequest(PROMPT, max_tokens=num_tokens, orchestration=orchestration)


async def test_nobody_looks_and_nothing_is_told_somebody_does_and_sees_a_flow_come_and_go() -> None:
    async with (
        fleet(fake_model()) as system,
        gateway(system) as host,
        MemoryBus(system.broker) as bus,
    ):
        heard: list[str] = []

        async def hear(message: Message) -> None:
            heard.append(message.subject)

        await bus.subscribe("ms.router.*.moves", hear)
        await bus.subscribe("ms.watch", hear)
        await system.ask(asked())
        unwatched = list(heard)

        async with watching(host.url) as watcher:
            await watcher.until(lambda w: len(w.engines) == 2 and "ms.router.r0.moves" in heard)
            _, done = await system.ask(asked(8))
            await watcher.until(lambda w: done.flow in w.ended)
        unknown = await fetched(host.url, f"/live/flows/{'0' * 32}")
        file = await fetched(host.url, "/live/page/..%2Flooking.py")
        nobody = await fetched(host.url, "/live/strategies/nobody@3")
        drawn = await fetched(host.url, "/live/diagrams/data_parallel")

        assert unwatched == []
        flow, strategy, outcome, jct_s, num_tokens, ttft_s = watcher.ended[done.flow]
        assert (flow, strategy, outcome) == (done.flow, "disaggregated@installed", "finished")
        assert num_tokens == 8
        assert 0 < ttft_s <= jct_s
        assert watcher.passed[strategy, "Idle", "Submitted", "Preparing"] == 1
        engine = watcher.engines["d0"]
        assert (engine["role"], engine["status"], engine["total_pages"]) == ("decode", "alive", 256)
        assert sum(engine[f"{o}_pages"] for o in ("free", "cached", "granted", "used")) == 256
        assert (unknown[0], unknown[1]["error"]["code"]) == (404, "no_such_flow")
        assert file[0] == 404
        assert (nobody[0], nobody[1]["error"]["code"]) == (404, "unknown_orchestration")
        assert drawn[1]["states"] == ["Idle", "Generating", "Done"]
        await system.idle()


async def test_a_flow_is_looked_at_while_it_goes_on_and_when_it_is_over() -> None:
    """With keys: users see how it goes, and operators what is said, too."""
    async with (
        fleet(SLOW) as system,
        gateway(system, "user", operator_keys=("boss",)) as host,
        watching(host.url, "boss") as watcher,
    ):
        answer = asyncio.create_task(system.ask(asked(30)))
        await watcher.until(lambda w: bool(w.flows))
        [flow] = watcher.flows
        going_on = (await fetched(host.url, f"/live/flows/{flow}", "boss"))[1]
        by_user = (await fetched(host.url, f"/live/flows/{flow}", "user"))[1]
        refused, _ = await fetched(host.url, f"/live/flows/{flow}")
        tokens, _ = await answer
        await watcher.until(lambda w: flow in w.ended)
        status, over = await fetched(host.url, f"/live/flows/{flow}", "boss")

        assert going_on["prompt"]["num_tokens"] == len(PROMPT)
        assert [t for t, _ in going_on["prompt"]["tokens"]] == list(PROMPT)
        assert going_on["bars"][0]["name"] == "microserve.request"
        assert (by_user["withheld"], by_user["prompt"]["tokens"]) == (True, [])
        assert by_user["prompt"]["num_tokens"] == len(PROMPT)
        assert refused == 401
        assert (status, over["goes_on"], over["state"]) == (200, False, "finished")
        assert [t for t, _ in over["answers"][0]["tokens"]] == tokens
        assert over["answers"][0]["tokens"][0][1] == f"{tokens[0]} "
        assert "send StartGenerate" in {bar["name"] for bar in over["bars"]}


async def test_the_page_loads_nothing_from_outside_and_nothing_is_taken_for_a_script() -> None:
    async with fleet(fake_model()) as system, gateway(system, "key") as host:
        async with aiohttp.ClientSession() as session:
            answers = [
                await session.get(f"{host.url}{path}") for path in (PAGE, f"{ASSETS}main.js")
            ]

        kinds = [answer.content_type for answer in answers]
        assert kinds == ["text/html", "text/javascript"]
        for answer in answers:
            policy = answer.headers["Content-Security-Policy"].split("; ")
            assert {"default-src 'none'", "script-src 'self'", "base-uri 'none'"} <= set(policy)
            assert "unsafe" not in str(policy)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
