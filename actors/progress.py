"""A bar on standard error for work that takes seconds, where somebody looks at it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Drawn

from engine.progress import UNSEEN, Progress


@contextlib.contextmanager
def bar(what: str) -> Iterator[Progress]:
    """Drawn from the first report on, and gone at the end; nothing at all where standard error is
    no terminal."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield UNSEEN
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Drawn(*columns, console=console, transient=True) as drawn:
        task = drawn.add_task(what, total=None, visible=False)

        def report(done: int, total: int) -> None:
            drawn.update(task, completed=done, total=total, visible=True)

        yield report


def loading_bar(name: str) -> contextlib.AbstractContextManager[Progress]:
    """For the engine of that name, while it loads its weights."""
    return bar(f"{name} loads its weights")
