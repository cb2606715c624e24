"""The processes of one benchmark: started, asked over pipes, watched for CPU time, ended.

```
benchmark ---- one JSON line, a question ----> party
          <--- one JSON line, the answer -----
          ---- end of input: you may go ----->
```
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

T = TypeVar("T")

ANSWER_WITHIN_S: Final = 60.0
LEAVE_WITHIN_S: Final = 10.0
LONGEST_LINE_BYTES: Final = 16 << 20


class PartyFailed(Exception):
    """A process of the benchmark ended or fell silent; its last words are on standard error."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name, self.why = name, why


class Party:
    """One process that answers questions. Made by `Crew.start` only."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, answer_within_s: float
    ) -> None:
        self.name, self._within_s = name, answer_within_s
        self.greeting = msgspec.Raw()
        """What it answered when it was ready."""
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self._process.returncode

    async def ask(self, question: object, kind: type[T]) -> T:
        """The answer to one question.

        Raises:
            PartyFailed: none came in time, or the process is gone.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(question) + b"\n")
        return await self.hear(kind)

    async def hear(self, kind: type[T]) -> T:
        """What else it has to say to the last question. Raises: PartyFailed."""
        return msgspec.json.decode(await self._line(), type=kind)

    async def leave(self) -> None:
        """Ask it to go, wait, insist. Again does nothing."""
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(LEAVE_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(self._within_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise PartyFailed(self.name, f"did not answer within {self._within_s:g} s") from None
        if not line:
            raise PartyFailed(self.name, "ended before its time")
        return line


class Crew:
    """All parties of a benchmark; leaving the block ends them, the last one first."""

    def __init__(self) -> None:
        self._parties: list[Party] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for party in reversed(self._parties):
            await asyncio.shield(party.leave())

    async def start(self, name: str, config: object) -> Party:
        """Start ``bench.parties.NAME`` and tell it ``config``; returns when it is ready.

        Raises:
            PartyFailed: it did not get so far.
        """
        command = (sys.executable, "-m", f"bench.parties.{name}")
        return await self.launch(name, command, config)

    async def launch(
        self,
        name: str,
        command: Sequence[str],
        config: object,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> Party:
        """As `start`, any program that keeps to the protocol.

        Raises:
            PartyFailed: it did not get so far.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for us; the end of their input is for them
        )
        party = Party(name, process, answer_within_s)
        self._parties.append(party)
        party.greeting = await party.ask(config, msgspec.Raw)
        return party


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of all threads that a process ever had.

    The clock is the one that clock_getcpuclockid(3) makes on Linux: it counts nanoseconds, where
    /proc has ticks of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)
