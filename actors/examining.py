"""Is a strategy's file fit to be loaded? Asked in a sandbox, since nobody has tried it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrations.sandbox import check_file
from orchestrations.source import BadStrategy


class NotFit(Exception):
    """The check found something; the text shows it, with the path that leads to it."""


async def examine(path: Path) -> str:
    """What the check says of it, in a line.

    Raises:
        NotFit: it may not be loaded, breaks a rule, or the check had no end.
    """
    try:
        verdict = await asyncio.to_thread(check_file, path)
    except BadStrategy as error:
        raise NotFit(str(error)) from None
    if not verdict.passed:
        raise NotFit(str(verdict))
    return str(verdict).splitlines()[0]
