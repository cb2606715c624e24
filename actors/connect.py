"""One line from a program to a running system."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.nats import NatsBus
from bus.subjects import Subjects

from .client import Client
from .session import Session


@asynccontextmanager
async def connect(url: str, *, namespace: str = "ms") -> AsyncIterator[Session]:
    """A session with the system at ``url`` (``nats://[TOKEN@]HOST:PORT``).

    ```
    async with connect(url) as ms:
        async for token in ms.generate("Once upon a time", max_tokens=64):
            print(token, end="", flush=True)
    ```

    Raises:
        CannotConnect: there is no broker, or it does not let us in.
    """
    async with (
        NatsBus(url, name="microserve-client") as bus,
        Client(bus, Subjects(namespace)) as client,
    ):
        yield Session(client)
