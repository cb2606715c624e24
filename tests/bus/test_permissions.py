"""A broker that allows only some subjects: its complaints are counted, logged, and end nothing."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.binary import find_server
from bus.nats import NatsBus
from bus.tether import tethered

from .parties import Echo, Listener, reach

PATIENCE_S = 10.0


@pytest.fixture
def guarded_url(tmp_path: Path) -> Iterator[str]:
    """A broker where the user may say and hear only ``open.>`` and his own inboxes."""
    allowed = ["open.>", "_INBOX.>"]
    user = {"user": "u", "password": "p", "permissions": {"publish": allowed, "subscribe": allowed}}
    config = tmp_path / "server.conf"
    config.write_text(
        json.dumps(
            {
                "listen": "127.0.0.1:-1",
                "ports_file_dir": str(tmp_path),
                "authorization": {"users": [user]},
            }
        )
    )
    with subprocess.Popen(
        tethered([str(find_server()), "-c", str(config)]), stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield f"nats://u:p@{_address(tmp_path)}"
        finally:
            process.kill()


def _address(folder: Path) -> str:
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := [path.read_text() for path in folder.glob("*.ports")]) or not found[0]:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    return str(json.loads(found[0])["nats"][0]).removeprefix("nats://")


async def test_a_violation_is_counted_and_logged_and_the_connection_goes_on(
    guarded_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with NatsBus(guarded_url) as bus:
        await bus.subscribe("open.a", Echo(bus))

        await bus.publish("closed.a", b"")
        await bus.subscribe("closed.b", Listener())

        await reach(lambda: bus.statistics().errors == 2)
        assert 'publish to "closed.a"' in caplog.text
        assert 'subscription to "closed.b"' in caplog.text
        assert ":p@" not in caplog.text
        assert (await bus.request("open.a", b"alive", timeout_s=5)).payload == b"alive"
