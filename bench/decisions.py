"""What a decision costs: a transition of a strategy, and a placement among 1,000 engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

from actors.standing import Standing
from bus.fleet import Fleet, Role
from bus.messages import (
    Beat,
    EngineEvent,
    Finished,
    Mailbox,
    Prepared,
    Request,
    Sampling,
    Sent,
    Started,
    Submitted,
    Usage,
)
from bus.tokens import Tokens
from orchestrations.machine import Idle
from orchestrations.policy import policy
from orchestrations.registry import strategies

from .progress import each
from .report import AtMost, Figure, Result

ROLES: tuple[Role, ...] = ("prefill", "decode", "both")
REQUEST = Request(Tokens(range(500)), Sampling(), Mailbox("answers"), group="law")
NUM_TOKENS = 628
"""Of prompt and answer."""
ANSWERS: tuple[EngineEvent, ...] = (
    Prepared(b"grant", 0),
    Sent(num_bytes=1, seconds=0.1, lane="memory"),
    Started(0),
    Finished("stop", Usage()),
)
REPEATS = 7
MODEL = "m"


def run() -> Result:
    """Ratios are of the time that is allowed: 20 microseconds a transition, 200 a placement. What a
    router does for a placement is to make the fleet of the flow and to ask the strategy."""
    standing, few = _standing(1000), _fleet(_standing(4))
    figures: dict[str, Figure] = {}
    ratios: dict[str, float] = {}
    fleet_us = figures["fleet_us"] = _least_us(_asking(standing))
    figures["beat_us"] = _least_us(_beating(standing))
    for name, strategy in each([*strategies().items()], "strategies"):
        transition = figures[f"{name}_transition_us"] = _transition_us(strategy, few)
        choice = figures[f"{name}_choice_us"] = _least_us(_choosing(strategy, standing))
        ratios[f"{name}_transition_of_20_us"] = transition / 20
        ratios[f"{name}_placement_of_200_us"] = (fleet_us + choice) / 200
    thousand = _fleet(standing)
    figures["best_prefix_us"] = _least_us(lambda: thousand.best_prefix(REQUEST.prompt))
    figures["pair_us"] = _least_us(lambda: thousand.pair(REQUEST.prompt))
    figures["policy_us"] = _least_us(lambda: policy(REQUEST, thousand))
    return Result("decisions", ratios, figures, dict.fromkeys(ratios, AtMost(1.0)))


def _standing(size: int) -> Standing:
    """A router's view of so many engines of all roles and four groups, none like another."""
    standing = Standing()
    for number in range(size):
        standing.heard(_beat(number), 0.0)
    return standing


def _beat(number: int) -> Beat:
    return Beat(
        f"e{number:03}", 1, MODEL, ROLES[number % 3], load=number * 7 % 13, free_pages=900,
        total_pages=1000, page_size=16, max_context=8192, compatibility="same", slots=64,
        waiting_tokens=number * 37 % 101, prefill_tokens_per_s=300.0 + number,
        group=("", "law", "art", "sports")[number // 3 % 4],
    )  # fmt: skip


def _fleet(standing: Standing) -> Fleet:
    cached = dict.fromkeys(standing.names(MODEL)[::17], 4)
    return standing.fleet(MODEL, cached, NUM_TOKENS)


def _asking(standing: Standing) -> Callable[[], object]:
    """The fleet of another flow each time, one engine having got something to do meanwhile."""
    numbers, names = count(), standing.names(MODEL)

    def ask() -> None:
        standing.claim(f"f{next(numbers) % 64}", {names[next(numbers) * 7 % len(names)]: 40})
        _fleet(standing)

    return ask


def _beating(standing: Standing) -> Callable[[], object]:
    numbers = count()

    def beat() -> None:
        number = next(numbers)
        standing.heard(_beat(number * 7 % 1000), number * 1e-3)

    return beat


def _choosing(strategy: Callable[..., Any], standing: Standing) -> Callable[[], object]:
    return partial(_submit, strategy, _fleet(standing))


def _submit(strategy: Callable[..., Any], fleet: Fleet) -> Any:
    return strategy(Idle(), Submitted(REQUEST, fleet))


def _transition_us(strategy: Callable[..., Any], few: Fleet) -> float:
    """The mean over a flow's whole life, on a fleet of four. Every strategy gets the same events,
    those of a transfer too where it let one engine do it all, and only passes them on."""

    def life() -> None:
        state, _ = _submit(strategy, few)
        for answer in ANSWERS:
            state, _ = strategy(state, answer)

    return _least_us(life) / (1 + len(ANSWERS))


def _least_us(work: Callable[[], object], number: int = 100) -> float:
    """The best of several tries: what the work takes when nobody is in its way."""

    def once() -> float:
        begin = perf_counter()
        for _ in range(number):
            work()
        return (perf_counter() - begin) / number * 1e6

    return min(once() for _ in range(REPEATS))
