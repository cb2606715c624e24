"""Is a strategy's file fit to be loaded? Asked in a process of its own: nobody has tried it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

WITHIN_S: Final = 120.0


class NotFit(Exception):
    """The check found something; the text shows it, with the path that leads to it."""


async def examine(path: Path) -> str:
    """What the check says of it, in a line.

    Raises:
        NotFit: it may not be loaded, breaks a rule, or the check had no end.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orchestrations",
        str(path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            told, _ = await process.communicate()
    except TimeoutError:
        raise NotFit(f"{path}: the check did not end within {WITHIN_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = told.decode(errors="replace").strip()
    if process.returncode != 0:
        raise NotFit(text or f"{path}: the check ended with status {process.returncode}")
    return text.splitlines()[0] if text else "passed"
