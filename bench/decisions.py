"""What a decision costs: a transition of a strategy, and a placement among 1,000 engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from bus.fleet import Engine, Fleet, Role
from bus.messages import (
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
from orchestrations.registry import strategies

from .report import AtMost, Figure, Result

ROLES: tuple[Role, ...] = ("prefill", "decode", "both")
REQUEST = Request(Tokens(range(500)), Sampling(), Mailbox("answers"))
ANSWERS: tuple[EngineEvent, ...] = (
    Prepared(b"grant", 0),
    Sent(num_bytes=1, seconds=0.1, lane="memory"),
    Started(0),
    Finished("stop", Usage()),
)
REPEATS = 7


def run() -> Result:
    """Ratios are of the time that is allowed: 20 microseconds a transition, 200 a placement."""
    figures: dict[str, Figure] = {}
    for name, strategy in strategies().items():
        figures[f"{name}_transition_us"] = _transition_us(strategy)
        figures[f"{name}_placement_us"] = _least_us(partial(_submit, strategy, THOUSAND))
    transition = max(_number(v) for k, v in figures.items() if k.endswith("transition_us"))
    one = _least_us(lambda: THOUSAND.best_prefix(REQUEST.prompt))
    figures["best_prefix_us"], figures["pair_us"] = one, _least_us(_pair)
    return Result(
        "decisions",
        {"transition_of_20_us": transition / 20, "best_prefix_of_200_us": one / 200},
        figures,
        {"transition_of_20_us": AtMost(1.0), "best_prefix_of_200_us": AtMost(1.0)},
    )


def _fleet(size: int) -> Fleet:
    engines = (
        Engine(
            f"e{number}",
            ROLES[number % 3],
            load=number * 7 % 13,
            cached=64 * (number % 17 == 0),
            prefill_tokens_per_s=300.0 + number,
        )
        for number in range(size)
    )
    return Fleet(tuple(engines))


THOUSAND, FEW = _fleet(1000), _fleet(4)


def _pair() -> None:
    THOUSAND.pair(REQUEST.prompt)


def _submit(strategy: Callable[..., Any], fleet: Fleet) -> Any:
    return strategy(Idle(), Submitted(REQUEST, fleet))


def _transition_us(strategy: Callable[..., Any]) -> float:
    """The mean over a flow's whole life, on a fleet of four."""

    def life() -> None:
        state, _ = _submit(strategy, FEW)
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


def _number(figure: Figure) -> float:
    assert isinstance(figure, float)
    return figure
