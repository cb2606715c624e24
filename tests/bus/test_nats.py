"""What only a real broker can do to us: restarts, refusals, permissions, malformed messages."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from urllib.parse import urlsplit

import pytest

from bus.interface import Disconnected, NoResponders, RequestTimedOut
from bus.nats import CannotConnect, NatsBus, NatsConfig
from bus.server import EmbeddedServer

from .parties import Echo, Listener, reach


@pytest.fixture
def raw(nats_url: str) -> RawClient:
    return RawClient(nats_url)


class RawClient:
    """Speaks to the broker byte by byte, as a hostile client can."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._token = parts.username

    def say(self, protocol: bytes) -> None:
        """Returns when the broker has processed it."""
        with socket.create_connection(self._address, timeout=5) as connection:
            hello = b'CONNECT {"auth_token":"%s","headers":true,"verbose":false}\r\n'
            connection.sendall(hello % str(self._token).encode() + protocol + b"PING\r\n")
            heard = b""
            while b"PONG\r\n" not in heard:
                part = connection.recv(4096)
                assert part, f"the broker hung up: {heard!r}"
                heard += part


# --- connecting ---------------------------------------------------------------------------------


async def test_a_wrong_token_is_refused_at_once_and_clearly(nats_url: str) -> None:
    wrong = f"nats://wrong-secret@{nats_url.rpartition('@')[2]}"
    async with asyncio.timeout(2):
        with pytest.raises(CannotConnect) as caught:
            async with NatsBus(wrong):
                pass

    assert "refused our credentials" in str(caught.value)
    assert "wrong-secret" not in str(caught.value)
    assert caught.value.url == f"nats://{nats_url.rpartition('@')[2]}"


async def test_nobody_at_the_address_is_a_clear_error_after_some_time() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(CannotConnect, match="nothing listens there"):
            async with NatsBus(url, config=NatsConfig(connect_timeout_s=0.2)):
                pass


async def test_a_broker_that_says_nothing_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(CannotConnect, match="does not answer"):
            async with NatsBus(url, config=NatsConfig(connect_timeout_s=0.2)):
                pass


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://localhost:1", "nats://", "nats://secret@:1", "nats://h:99999"]
)
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CannotConnect, match="use nats://") as caught:
        async with NatsBus(url):
            pass
    assert "secret" not in str(caught.value)


async def test_connecting_can_be_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        bus = NatsBus(f"nats://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await bus.__aenter__()


async def test_a_secret_is_in_no_log_line(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with NatsBus(nats_url, name="me") as bus:
        assert repr(bus) == f"<NatsBus me at nats://{nats_url.rpartition('@')[2]}>"


# --- losing the connection ----------------------------------------------------------------------


async def test_subscriptions_survive_a_restart_of_the_broker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="microserve.bus")
    async with EmbeddedServer() as server, NatsBus(server.url) as bus, NatsBus(server.url) as other:
        await bus.subscribe("a.*", Echo(bus))

        await server.restart()
        await bus.flush()
        await other.flush()

        assert (await other.request("a.b", b"back", timeout_s=5)).payload == b"back"
        assert bus.statistics().reconnects == 1
        assert "connection is lost" in caplog.text
        assert "connected again" in caplog.text


async def test_subscriptions_survive_a_broker_killed_without_warning() -> None:
    listener = Listener()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus:
        await bus.subscribe("a", listener)

        os.kill(server.pid, signal.SIGKILL)
        await server.restart()
        await bus.flush()
        await bus.publish("a", b"x")

        await listener.wait_for(1)


async def test_while_there_is_no_broker_a_bounded_number_of_bytes_is_kept() -> None:
    listener = Listener()
    config = NatsConfig(reconnect_buffer_bytes=10_000)
    async with EmbeddedServer() as server, NatsBus(server.url, config=config) as bus:
        await bus.subscribe("a", listener)
        server.kill()
        await reach(lambda: not bus.statistics().connected)

        await bus.publish("a", b"x" * 5_000)
        with pytest.raises(Disconnected, match="wait for one already"):
            await bus.publish("a", b"y" * 5_000)
        await server.restart()

        await listener.wait_for(1)
        assert listener.payloads == [b"x" * 5_000]


async def test_a_flush_waits_for_the_broker_to_come_back_but_not_for_ever() -> None:
    config = NatsConfig(flush_timeout_s=0.05)
    async with EmbeddedServer() as server, NatsBus(server.url, config=config) as bus:
        server.kill()
        await reach(lambda: not bus.statistics().connected)

        with pytest.raises(Disconnected, match=r"within 0\.05 s"):
            await bus.flush()
        with pytest.raises(Disconnected):
            await bus.subscribe("a", Listener())

        await server.restart()
        await reach(lambda: bus.statistics().connected)
        await bus.flush()
        with pytest.raises(NoResponders):
            await bus.request("a", b"", timeout_s=5)


async def test_a_bus_can_be_left_while_the_broker_is_away() -> None:
    async with EmbeddedServer() as server, asyncio.timeout(5), NatsBus(server.url) as bus:
        await bus.subscribe("a", Listener())
        server.kill()
        await reach(lambda: not bus.statistics().connected)


async def test_a_bus_can_be_left_with_messages_that_wait_for_the_broker() -> None:
    async with EmbeddedServer() as server, asyncio.timeout(5), NatsBus(server.url) as bus:
        server.kill()
        await reach(lambda: not bus.statistics().connected)
        await bus.publish("a", b"x")


async def test_a_bus_can_be_left_while_the_broker_hangs() -> None:
    config = NatsConfig(drain_timeout_s=0.05)
    async with EmbeddedServer() as server:
        async with asyncio.timeout(5), NatsBus(server.url, config=config) as bus:
            await bus.subscribe("a", Listener())
            os.kill(server.pid, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGCONT)


async def test_leaving_does_not_wait_for_ever_for_a_handler(nats_url: str, root: str) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def stuck(message: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with NatsBus(nats_url, config=NatsConfig(drain_timeout_s=0.05)) as bus:
        await bus.subscribe(root, stuck)
        await bus.publish(root, b"")
        await asyncio.wait_for(begun.wait(), 5)

    assert cancelled.is_set()


# --- what comes in ------------------------------------------------------------------------------


def _with_header_block(block: bytes) -> bytes:
    return b"HPUB %%s.a %d %d\r\n%sx\r\n" % (len(block), len(block) + 1, block)


@pytest.mark.parametrize(
    "protocol",
    [
        b"PUB %s.\xff\xfe 1\r\nx\r\n",
        b"PUB %s.a \xff 1\r\nx\r\n",
        _with_header_block(b"NATS/1.0"),
        _with_header_block(b"NATS/1.0\r\n\r\n"),
        _with_header_block(b"NATS/1.0 \xff\xff\xff\r\n\r\n"),
        _with_header_block(b"NATS/1.0 503 \xff\r\n\r\n"),
        _with_header_block(b"nonsense\r\n\xff\r\n\r\n"),
    ],
)
async def test_a_malformed_message_harms_nobody(
    nats_url: str, root: str, raw: RawClient, protocol: bytes
) -> None:
    async with NatsBus(nats_url) as bus:
        await bus.subscribe(f"{root}.>", Echo(bus))

        await asyncio.to_thread(raw.say, protocol % root.encode())

        reply = await bus.request(f"{root}.b", b"alive", timeout_s=2)
        assert reply.payload == b"alive"
        assert bus.statistics().reconnects == 0


async def test_nobody_can_choose_which_of_our_subscriptions_hears_him(
    nats_url: str, root: str, raw: RawClient
) -> None:
    public, private = Listener(), Listener()
    async with NatsBus(nats_url) as bus:
        await bus.subscribe(f"{root}.public.*", public)
        await bus.subscribe(f"{root}.private", private)

        await asyncio.to_thread(raw.say, b"PUB %s.public.x\x0c3 1\r\nx\r\n" % root.encode())
        await reach(lambda: bus.statistics().errors == 1)

        assert public.heard == private.heard == []


async def test_a_malformed_message_is_counted(nats_url: str, root: str, raw: RawClient) -> None:
    async with NatsBus(nats_url) as bus:
        await bus.subscribe(f"{root}.>", Echo(bus))

        await asyncio.to_thread(raw.say, b"PUB %s.\xff 1\r\nx\r\n" % root.encode())

        await reach(lambda: bus.statistics().errors == 1)


# --- what goes out ------------------------------------------------------------------------------


async def test_what_one_turn_publishes_leaves_in_order_in_the_next(
    nats_url: str, root: str
) -> None:
    listener = Listener()
    async with NatsBus(nats_url) as bus, NatsBus(nats_url) as other:
        await other.subscribe(root, listener)
        for number in range(10):
            await bus.publish(root, b"%d" % number)

        await listener.wait_for(10)

        assert listener.payloads == [b"%d" % number for number in range(10)]


async def test_a_publisher_waits_for_a_network_that_does_not_keep_up() -> None:
    listener = Listener()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus, NatsBus(server.url) as other:
        await other.subscribe("a", listener)
        os.kill(server.pid, signal.SIGSTOP)
        publishing = asyncio.ensure_future(_publish_many(bus, 64, 1 << 20))
        done, _ = await asyncio.wait([publishing], timeout=0.1)

        os.kill(server.pid, signal.SIGCONT)
        await asyncio.wait_for(publishing, 20)

        assert not done
        await listener.wait_for(64)
        assert [p[0] for p in listener.payloads] == list(range(64))


async def _publish_many(bus: NatsBus, count: int, num_bytes: int) -> None:
    for number in range(count):
        await bus.publish("a", bytes([number]) * num_bytes)


async def test_a_reply_that_comes_too_late_harms_nobody(nats_url: str, root: str) -> None:
    asked = Listener()
    async with NatsBus(nats_url) as bus, NatsBus(nats_url) as other:
        await other.subscribe(root, asked)
        with pytest.raises(RequestTimedOut):
            await bus.request(root, b"", timeout_s=0.01)

        await other.publish(asked.heard[0].reply, b"late")
        await other.subscribe(f"{root}.alive", Echo(other))

        reply = await bus.request(f"{root}.alive", b"in time", timeout_s=5)
        assert reply.payload == b"in time"
