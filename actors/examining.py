"""Is a file fit to be loaded? Asked in a sandbox, since nobody has tried it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from orchestrations.sandbox import check_any_file
from orchestrations.source import BadStrategy


class NotFit(Exception):
    """The check found something; the text shows it, with the path that leads to it."""


async def examine(path: Path, more_names: Sequence[str] = ()) -> str:
    """What the check says of it, in a line. A policy may choose from what is installed, and from
    ``more_names``.

    Raises:
        NotFit: it may not be loaded, breaks a rule, or the check had no end.
    """
    try:
        verdict = await asyncio.to_thread(check_any_file, path, more_names)
    except BadStrategy as error:
        raise NotFit(str(error)) from None
    if not verdict.passed:
        raise NotFit(str(verdict))
    return str(verdict).splitlines()[0]
