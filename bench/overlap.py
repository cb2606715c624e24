"""Layer-by-layer sending behind a prefill: what of the transfer is left when it has ended.

Two engine processes of one thread each with the default model. The same prompts go over shared
memory as fast as it is, which is 10 GB/s or so, and over links of a tenth, a hundredth and a
thousandth of that: `CourierConfig` has a limit for what an engine writes, and a transfer is only
over when the link would have carried it.

``python -m bench overlap`` measures. ``python -m bench.overlap FILE`` appends each point to a file
as soon as it is measured, and makes the table and the picture of all that the file holds.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from .crew import Crew, Party
from .driven_engine import Sending
from .machine import Watch
from .parties.conversation import Ready
from .parties.kv_engine import KvEngine, Prefill, Prepare, Receive, Send
from .progress import rounds
from .report import AtMost, Figure, Result, Target

VOCABULARY: Final = 4096
LONG_TOKENS: Final = 1000
"""From here on the aims hold."""
SHARED, TENTH, HUNDREDTH, THOUSANDTH = "shared memory", "1 GB/s", "0.1 GB/s", "0.01 GB/s"
LINKS: Final = {SHARED: None, TENTH: 1e9, HUNDREDTH: 1e8, THOUSANDTH: 1e7}
"""Bytes per second at most."""


class Plan(Struct, frozen=True):
    lengths: tuple[int, ...] = (256, 512, 1024, 2048)
    links: tuple[str, ...] = tuple(LINKS)
    repeats: int = 2
    threads: int = 1
    model: str | None = None


class Point(Struct, frozen=True):
    """One prompt, over one link."""

    link: str
    num_tokens: int
    alone_s: float
    """The prefill of as long a prompt, sent to nobody, in the same round."""
    prefill_s: float
    exposed_s: float
    """From the end of the prefill until the receiver's word that it has everything."""
    num_bytes: int
    write_s: float

    @property
    def exposed_share(self) -> float:
        return self.exposed_s / self.prefill_s


def run() -> Result:
    return result(asyncio.run(_all(Plan())))


async def _all(plan: Plan) -> list[Point]:
    return [point async for point in measure(plan)]


async def measure(plan: Plan) -> AsyncIterator[Point]:
    async with Crew() as crew:
        lab = _Lab(crew, plan)
        await lab.open()
        for _ in rounds(plan.repeats):
            for num_tokens in plan.lengths:
                alone_s = await lab.alone_s(num_tokens)
                for link in plan.links:
                    yield await lab.point(link, num_tokens, alone_s)


class _Lab:
    """The receiver, and a sender for each link."""

    def __init__(self, crew: Crew, plan: Plan) -> None:
        self._crew, self._plan = crew, plan
        self._senders: dict[str, Party] = {}
        self._flows, self._random = count(), random.Random(4)

    async def open(self) -> None:
        self._receiver = await self._start("receiver", None)
        for link in self._plan.links:
            self._senders[link] = await self._start(f"sender over {link}", LINKS[link])
            await self._send(link, min(self._plan.lengths))  # so that everything is warm

    async def alone_s(self, num_tokens: int) -> float:
        """Of a prompt that is sent to nobody."""
        question = Prefill(self._flow(), self._prompt(num_tokens))
        return await self._senders[SHARED].ask(question, float)

    async def point(self, link: str, num_tokens: int, alone_s: float) -> Point:
        done = await self._send(link, num_tokens)
        sent = done.sent
        return Point(
            link,
            num_tokens,
            alone_s,
            done.prefill_s,
            sent.exposed_s,
            sent.num_bytes,
            sent.write_s,
        )

    async def _start(self, name: str, max_bytes_per_s: float | None) -> Party:
        room = 4 * max(self._plan.lengths)
        config = KvEngine(name, self._plan.model, room, self._plan.threads, max_bytes_per_s)
        return await self._crew.start("kv_engine", config)

    async def _send(self, link: str, num_tokens: int) -> Sending:
        flow, prompt = self._flow(), self._prompt(num_tokens)
        grant = await self._receiver.ask(Prepare(flow, prompt), bytes)
        done = await self._senders[link].ask(Send(flow, prompt, grant), Sending)
        await self._receiver.ask(Receive(flow), Ready)
        return done

    def _flow(self) -> str:
        return f"f{next(self._flows)}"

    def _prompt(self, num_tokens: int) -> list[int]:
        """Never seen before."""
        return [self._random.randrange(VOCABULARY) for _ in range(num_tokens)]


# --- what it says -------------------------------------------------------------------------------


def result(points: Sequence[Point]) -> Result:
    """The ratios are of long prompts: the worst length's median."""
    long = [p for p in points if p.num_tokens >= LONG_TOKENS]
    links = list(dict.fromkeys(p.link for p in points))
    ratios = {f"exposed_share_of_prefill_{_id(link)}": _worst(long, link) for link in links}
    for link in links:
        slower = [p.prefill_s / p.alone_s for p in long if p.link == link]
        ratios[f"prefill_vs_alone_{_id(link)}"] = statistics.median(slower)
    targets: dict[str, Target] = {
        f"exposed_share_of_prefill_{_id(SHARED)}": AtMost(0.05),
        f"prefill_vs_alone_{_id(TENTH)}": AtMost(1.05),
    }
    kept = {name: target for name, target in targets.items() if name in ratios}
    return Result("overlap", ratios, figures(points), kept)


def _worst(points: Iterable[Point], link: str) -> float:
    shares: dict[int, list[float]] = {}
    for point in points:
        if point.link == link:
            shares.setdefault(point.num_tokens, []).append(point.exposed_share)
    return max(statistics.median(found) for found in shares.values())


def figures(points: Sequence[Point]) -> dict[str, Figure]:
    told: dict[str, Figure] = {}
    for (link, num_tokens), found in _by_place(points).items():
        name = f"{_id(link)}_{num_tokens}"
        median = {
            field: statistics.median(getattr(p, field) for p in found)
            for field in ("alone_s", "prefill_s", "exposed_s", "write_s")
        }
        told |= {f"{field}_{name}": value for field, value in median.items()}
        told[f"gb_per_s_{name}"] = found[0].num_bytes / median["write_s"] / 1e9
    return told


def _by_place(points: Sequence[Point]) -> dict[tuple[str, int], list[Point]]:
    places: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        places.setdefault((point.link, point.num_tokens), []).append(point)
    return places


def _id(link: str) -> str:
    return dict(zip(LINKS, ("shared", "tenth", "hundredth", "thousandth"), strict=True))[link]


# --- in pieces ----------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> None:
    path, watch = Path(arguments[0]), Watch.begin()
    asyncio.run(_append(path))
    points = [msgspec.json.decode(line, type=Point) for line in path.read_bytes().splitlines()]
    from .overlap_plot import plot

    plot(points, path.with_suffix(".svg"))
    sys.stdout.write(table(points))
    sys.stdout.write(f"others used {watch.machine().load_by_others:.0%} of the machine\n")


async def _append(path: Path) -> None:
    with path.open("ab", buffering=0) as found:
        async for point in measure(Plan()):
            found.write(msgspec.json.encode(point) + b"\n")


def table(points: Sequence[Point]) -> str:
    """Markdown, and the ratios below it."""
    head = "| link | tokens | prefill | alone | exposed | share |\n" + 6 * "|---" + "|\n"
    rows = [_row(link, n, found) for (link, n), found in _by_place(points).items()]
    told = [f"{name}: {ratio:.4f}\n" for name, ratio in result(points).ratios.items()]
    return "".join([head, *rows, "\n", *told])


def _row(link: str, num_tokens: int, found: Sequence[Point]) -> str:
    prefill_s, alone_s, exposed_s, share = (
        statistics.median(getattr(p, field) for p in found)
        for field in ("prefill_s", "alone_s", "exposed_s", "exposed_share")
    )
    return (
        f"| {link} | {num_tokens} | {prefill_s:.2f} s | {alone_s:.2f} s | {exposed_s * 1e3:.1f} ms"
        f" | {share:.2%} |\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
