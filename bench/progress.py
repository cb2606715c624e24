"""A bar on standard error while a benchmark runs, where somebody looks at it.

It is drawn between two steps and never beside one: a thread that draws would be measured, too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
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
