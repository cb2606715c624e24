"""What telling the decoder to start together with the transfer saves, against waiting for its end.

One request at a time, once so and once so, on two real engines: alone, and beside others that
decode at the same engine. `strategies.in_turn` is loaded into the running system for it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct

from actors.client import Client
from actors.client_errors import RequestRejected
from actors.operating import add
from actors.version_store import VersionStore
from bus.jetstream import JetStreamBuckets
from bus.nats import NatsBus
from bus.public import Delta, GenerateRequest

from .progress import rounds
from .report import AtMost, Figure, Result
from .sweep import two_engines

KNOWN_WITHIN_S: Final = 10.0
TOGETHER, IN_TURN = "disaggregated", "in_turn"
STRATEGY: Final = Path(__file__).parent / "strategies" / "in_turn.py"


Seen: TypeAlias = dict[tuple[str, str], list[float]]
"""Seconds to the first token, by circumstance and strategy."""


class Plan(Struct, frozen=True):
    pairs: int = 60
    prompt_tokens: int = 256
    beside: int = 8
    """Requests that decode meanwhile, in the second half."""


def run(plan: Plan = Plan()) -> Result:  # noqa: B008 - frozen
    seen = asyncio.run(_on_real_engines(plan))
    return result(seen)


def result(seen: Seen) -> Result:
    middle = {what: statistics.median(times) for what, times in seen.items()}
    ratios = {
        f"ttft_together_vs_in_turn_{how}": middle[how, TOGETHER] / middle[how, IN_TURN]
        for how in ("alone", "beside_others")
    }
    figures: dict[str, Figure] = {
        f"ttft_{strategy}_{how}_ms": s * 1e3 for (how, strategy), s in middle.items()
    }
    return Result("starting", ratios, figures, {name: AtMost(1.0) for name in ratios})


async def _on_real_engines(plan: Plan) -> Seen:
    async with (
        two_engines() as (url, model),
        NatsBus(url, name="bench") as bus,
        Client(bus) as client,
    ):
        versions = await VersionStore.open(JetStreamBuckets(bus), "ms")
        return await measure(client, model, versions, plan)


async def measure(client: Client, model: str, versions: VersionStore, plan: Plan) -> Seen:
    """On a system that runs already."""
    await versions.activate(IN_TURN, (await add(versions, STRATEGY)).ref)
    asking = _Asking(client, model, plan)
    await asking.until_known(IN_TURN)
    await asking.turns(plan.pairs // 4)  # engines are warm
    alone = await asking.turns(plan.pairs)
    async with asking.others():
        beside = await asking.turns(plan.pairs)
    return {
        (how, strategy): times
        for how, seen in (("alone", alone), ("beside_others", beside))
        for strategy, times in seen.items()
    }


class NoToken(Exception):
    """A request ended without any: there is no time to its first token."""


async def first_token_s(answer: AsyncIterator[object]) -> float:
    """Seconds from now to the first token of an answer, which is read to its end.

    Raises:
        NoToken: with the last that was heard.
    """
    began, first_s, last = time.perf_counter(), 0.0, None
    async for last in answer:
        if isinstance(last, Delta) and not first_s:
            first_s = time.perf_counter() - began
    if not first_s:
        raise NoToken(repr(last))
    return first_s


class _Asking:
    def __init__(self, client: Client, model: str, plan: Plan) -> None:
        self._client, self._model, self._plan = client, model, plan
        self._salts = count(1)

    async def until_known(self, strategy: str) -> None:
        """Routers hear of a version a moment after it was stored."""
        async with asyncio.timeout(KNOWN_WITHIN_S):
            while True:
                try:
                    await self._ttft_s(strategy)
                except RequestRejected:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def turns(self, pairs: int) -> dict[str, list[float]]:
        """First the one, then the other, then the other, then the one, and so on."""
        seen: dict[str, list[float]] = {TOGETHER: [], IN_TURN: []}
        for pair in rounds(pairs, "pairs"):
            for strategy in (TOGETHER, IN_TURN)[:: 1 if pair % 2 else -1]:
                seen[strategy].append(await self._ttft_s(strategy))
        return seen

    @asynccontextmanager
    async def others(self) -> AsyncIterator[None]:
        """So many others decode until the block ends."""

        async def one() -> None:
            while True:
                async for _ in self._client.generate(self._model, self._request(TOGETHER, 2000)):
                    pass

        tasks = [asyncio.create_task(one()) for _ in range(self._plan.beside)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ttft_s(self, strategy: str) -> float:
        return await first_token_s(self._client.generate(self._model, self._request(strategy, 2)))

    def _request(self, strategy: str, answer_tokens: int) -> GenerateRequest:
        """A prompt that nobody has cached."""
        salt = next(self._salts)
        prompt = tuple((salt * 31 + n * n) % 997 for n in range(self._plan.prompt_tokens))
        return GenerateRequest(
            prompt=prompt, max_tokens=answer_tokens, ignore_eos=True, orchestration=strategy
        )
