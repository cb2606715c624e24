"""A bar on standard error while the rounds of a benchmark go by, where somebody looks at it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import track


def rounds(count: int, what: str) -> Iterable[int]:
    """``range(count)``, drawn as it is used up."""
    if not sys.stderr.isatty():
        return range(count)
    console = Console(stderr=True)
    return track(range(count), description=what, console=console, transient=True)
