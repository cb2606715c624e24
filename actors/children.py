"""The processes of a local fleet: started, waited for, stopped. Every child holds a pipe from us as
its standard input: when we are gone, however we went, it reads the end of it and leaves in good
order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from engine.progress import UNSEEN, Progress

from .first_words import loaded

logger = logging.getLogger("microserve.supervisor")

READY_WITHIN_S = 180.0
"""Loading a model from a cold disk and converting it takes most of this."""
STOP_WITHIN_S = 10.0


class ChildFailed(Exception):
    """A process of the fleet ended by itself."""

    def __init__(self, name: str, code: int | None) -> None:
        how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
        super().__init__(f"{name} ended {how}: its last words are above")
        self.name, self.code = name, code


class ChildNotReady(Exception):
    """A process of the fleet said nothing for too long while it was to start."""

    def __init__(self, name: str, within_s: float) -> None:
        super().__init__(
            f"{name} was not ready, and said nothing for {within_s:g} s: is the machine overloaded?"
        )
        self.name, self.within_s = name, within_s


class Child:
    """One process of the fleet."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name, self.process = name, process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ready(self, within_s: float = READY_WITHIN_S, progress: Progress = UNSEEN) -> None:
        """Returns when the child says so; ``progress`` hears how far its weights are loaded.

        Raises:
            ChildFailed: it ended instead.
            ChildNotReady: it said nothing for too long.
        """
        try:
            while (come := loaded(line := await self._line(within_s))) is not None:
                progress(*come)
        except TimeoutError:
            raise ChildNotReady(self.name, within_s) from None
        if not line:
            raise ChildFailed(self.name, await self.process.wait())

    async def _line(self, within_s: float) -> bytes:
        """Raises: TimeoutError"""
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            return await self.process.stdout.readline()

    async def stop(self) -> None:
        """Ask, wait, insist. Calling it again does nothing."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self.process.wait()
            except TimeoutError:
                logger.warning("%s did not stop in %g s: killed", self.name, STOP_WITHIN_S)
                self.process.kill()
                await self.process.wait()


class Children:
    """The processes of one fleet; leaving the block asks them all to stop, in the order in which
    they were started, and returns when they have."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.shield(asyncio.gather(*(child.stop() for child in self._children)))

    async def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start ``microserve ARGUMENTS`` with a lifeline to us."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "actors",
            *arguments,
            "--lifeline",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for us: children are told in good order
        )
        child = Child(name, process)
        self._children.append(child)
        return child

    async def first_to_end(self) -> Child:
        """Waits until one of them ends by itself."""
        waits = {asyncio.ensure_future(c.process.wait()): c for c in self._children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    def forget(self, child: Child) -> None:
        self._children.remove(child)
