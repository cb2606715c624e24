"""Two routers that know nothing of each other share engines: what is full for one is full for both,
and no request fails for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bus.fleet import Role
from bus.public import GenerateRequest
from tests.system.fleet import Fleet, fake_model, fleet
from tests.system.test_fake_fleet import EXPECT, prompt

ENGINES: dict[str, Role] = {"x0": "both", "x1": "both"}
NUM_REQUESTS = 12
NUM_TOKENS = 20


async def answer(system: Fleet, number: int) -> list[int]:
    request = GenerateRequest(prompt=prompt(30, number), max_tokens=NUM_TOKENS)
    tokens, done = await system.ask(request)
    assert done.reason == "length", done.message
    return tokens


@pytest.mark.parametrize("orchestration", ["data_parallel", "resilient"])
async def test_a_flow_that_finds_no_slot_waits_and_is_bound_again(orchestration: str) -> None:
    model = replace(fake_model(step_s=0.002), slots=2)
    async with fleet(model, ENGINES, orchestration, more_routers=["r1"]) as system:
        answers = await asyncio.gather(*(answer(system, n) for n in range(NUM_REQUESTS)))
        await system.idle()
        routers = [core.statistics() for core in (system.router, *system.more_routers)]

    assert answers == [EXPECT.continuation(prompt(30, n), NUM_TOKENS) for n in range(NUM_REQUESTS)]
    assert sum(router.outcomes["finished"] for router in routers) == NUM_REQUESTS
    assert all(router.outcomes == {"finished": router.outcomes["finished"]} for router in routers)
    assert sum(router.refusals.get("busy", 0) for router in routers) > 0
