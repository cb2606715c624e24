"""A bar on standard error for work that takes seconds, where somebody looks at it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Report: TypeAlias = Callable[[int, int], None]
"""How much is done, and of how much."""


@contextlib.contextmanager
def bar(what: str) -> Iterator[Report]:
    """Drawn from the first report on, and gone at the end; nothing at all where standard error is
    no terminal."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, visible=False)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        yield report
