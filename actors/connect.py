"""One line from a program to a running system."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.nats import NatsBus
from bus.subjects import Subjects

from .client import Client


@asynccontextmanager
async def connect(url: str, *, namespace: str = "ms") -> AsyncIterator[Client]:
    """A client of the system at ``url`` (``nats://[TOKEN@]HOST:PORT``).

    ```
    async with connect(url) as client:
        async for message in client.generate("SmolLM2-135M-Instruct", GenerateRequest(prompt="Hi")):
            print(message)
    ```

    Raises:
        CannotConnect: there is no broker, or it does not let us in.
    """
    async with (
        NatsBus(url, name="microserve-client") as bus,
        Client(bus, Subjects(namespace)) as client,
    ):
        yield client
