"""A bar on standard error while a benchmark runs, where somebody looks at it.

It is drawn between two steps and never beside one: a thread that draws would be measured, too.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from math import ceil
from typing import TypeAlias, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
Step: TypeAlias = Callable[[], None]
"""One more is done."""

_is_hidden: ContextVar[bool] = ContextVar("is_hidden", default=False)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """No bar in this block, whoever looks: the result is for a program."""
    token = _is_hidden.set(True)
    try:
        yield
    finally:
        _is_hidden.reset(token)


@contextlib.contextmanager
def steps(total: int, what: str) -> Iterator[Step]:
    """A bar for so many steps; gone at the end."""
    if _is_hidden.get() or not sys.stderr.isatty():
        yield lambda: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as drawn:
        task = drawn.add_task(what, total=total)
        drawn.refresh()
        yield lambda: drawn.update(task, advance=1, refresh=True)


def each(items: Sequence[T], what: str) -> Iterator[T]:
    """``items``, drawn as they are done."""
    with steps(len(items), what) as step:
        for item in items:
            yield item
            step()


def rounds(count: int, what: str = "rounds") -> Iterator[int]:
    """``range(count)``, likewise."""
    return each(range(count), what)


def rounds_for(seconds: float) -> Iterator[int]:
    """0, 1, 2 and so on, until so many seconds are over; at least 0. What is drawn is the time."""
    begun_s, number, num_drawn = time.monotonic(), 0, 0
    with steps(ceil(seconds), "seconds") as step:
        while not number or time.monotonic() - begun_s < seconds:
            yield number
            number += 1
            for _ in range(num_drawn, min(int(time.monotonic() - begun_s), ceil(seconds))):
                step()
                num_drawn += 1
