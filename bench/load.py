"""Poisson load on a running system, and what each request saw of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from actors.client import Client, GenerateError
from bus.public import Delta, Done, GenerateRequest

GIVE_UP_AFTER_S: Final = 120.0

Prompt = tuple[int, ...]


class Kind(Struct, frozen=True):
    """One kind of request."""

    prompt_tokens: int
    answer_tokens: int
    shared_tokens: int = 0
    """At the start of the prompt, the same for all with one of the prefixes."""
    num_prefixes: int = 8


class Workload(Struct, frozen=True):
    """``kinds`` take turns, each for an equal part of the time."""

    name: str
    what: str
    kinds: tuple[Kind, ...]
    rates_per_s: tuple[float, ...]


class Seen(Struct, frozen=True):
    """What one request saw, from the moment at which it was due. ``error`` where it failed."""

    ttft_s: float = 0.0
    tpot_s: float = 0.0
    """Between two tokens, on average."""
    jct_s: float = 0.0
    error: str = ""


class Due(Struct, frozen=True):
    at_s: float
    prompt: Prompt
    answer_tokens: int


def plan(workload: Workload, rate_per_s: float, seconds: float, seed: int) -> list[Due]:
    """When which request is due: a Poisson process, the same for the same arguments."""
    chance = random.Random(f"{workload.name} {rate_per_s} {seed}")
    due: list[Due] = []
    at_s = chance.expovariate(rate_per_s)
    while at_s < seconds:
        kind = workload.kinds[int(at_s / seconds * len(workload.kinds))]
        due.append(Due(at_s, _prompt(kind, seed, chance), kind.answer_tokens))
        at_s += chance.expovariate(rate_per_s)
    return due


def _prompt(kind: Kind, seed: int, chance: random.Random) -> Prompt:
    """Nobody else's, but for a prefix that several share."""
    prefix = random.Random(f"prefix {seed} {chance.randrange(kind.num_prefixes)}")
    shared = prefix.choices(range(4096), k=kind.shared_tokens)
    own = chance.choices(range(4096), k=kind.prompt_tokens - kind.shared_tokens)
    return (*shared, *own)


async def play(
    client: Client, model: str, orchestration: str, due: Sequence[Due], salt: int
) -> list[Seen]:
    """Ask for everything when it is due, whatever happened to what came before; returns when all
    have ended. ``salt`` makes the prompts others than those of the run before, so that nothing of
    it is cached."""
    began = time.monotonic()

    async def one(due: Due) -> Seen:
        await asyncio.sleep(due.at_s - (time.monotonic() - began))
        prompt = tuple((token + salt) % 4096 for token in due.prompt)
        request = GenerateRequest(
            prompt=prompt,
            max_tokens=due.answer_tokens,
            ignore_eos=True,
            orchestration=orchestration,
        )
        clock: Callable[[], float] = lambda: time.monotonic() - began - due.at_s  # noqa: E731
        try:
            async with asyncio.timeout(GIVE_UP_AFTER_S):
                return await _ask(client, model, request, clock)
        except (GenerateError, TimeoutError) as error:
            return Seen(error=str(error) or "no end")

    return await asyncio.gather(*map(one, due))


async def _ask(
    client: Client, model: str, request: GenerateRequest, clock: Callable[[], float]
) -> Seen:
    first_s = last_s = 0.0
    num_tokens = 0
    async for message in client.generate(model, request):
        if isinstance(message, Delta):
            last_s = clock()
            first_s = first_s or last_s
            num_tokens += len(message.tokens)
        elif isinstance(message, Done) and message.reason == "error":
            return Seen(error=message.message)
    tpot_s = (last_s - first_s) / max(num_tokens - 1, 1)
    return Seen(first_s, tpot_s, clock())
