"""nats-py's client with what our guarantees need: the only file that touches its private parts.

Each method says which behaviour of nats-py 2.16 makes it necessary.
"""

from __future__ import annotations

import asyncio
from typing import Final

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.protocol.command import hpub_cmd, pub_cmd

from .interface import Headers, Message
from .matching import compiled
from .replies import Replies

HANDLER_PATIENCE_S: Final = 1.0
"""How long a cancelled handler may take to end before it is left behind."""
UNSENT_BYTES: Final = 1 << 16
"""What the transport may hold before writing waits for it: where asyncio says "pause", too."""


class SturdyClient(Client):
    """A client that survives malformed messages and cancelled pings, and makes few detours."""

    _replies: Replies
    _replies_sid = 0
    _is_write_due = False

    async def expect_replies(self) -> None:
        """Once, after `connect` and before `ask`."""
        self._replies = Replies(self.new_inbox())
        subscription = await self.subscribe(self._replies.pattern, cb=_ignore)
        self._replies_sid = subscription._id

    def send(self, subject: str, payload: bytes, reply: str, headers: Headers | None) -> None:
        """Publish what was checked before; the next turn of the loop writes it.

        `publish` checks it again, and takes three coroutines and a full queue to get here.
        """
        block = _header_block(headers) if headers else b""
        command = (
            hpub_cmd(subject, reply, block, payload) if block else pub_cmd(subject, reply, payload)
        )
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        self._pending.append(command)
        self._pending_data_size += len(command)
        self._write_soon()

    async def ask(
        self, subject: str, payload: bytes, headers: Headers | None, timeout_s: float
    ) -> Message:
        """Publish, and return the first reply, be it "no responders".

        `request` sends every reply through a queue and a task and wraps every wait in another
        timer's machinery: half of what a request costs.

        Raises:
            TimeoutError: there was none within ``timeout_s``.
        """
        reply_subject, reply = self._replies.expect()
        alarm = asyncio.get_running_loop().call_later(timeout_s, _time_out, reply)
        try:
            self.send(subject, payload, reply_subject, headers)
            return await reply
        finally:
            alarm.cancel()
            self._replies.forget(reply_subject)

    async def written(self) -> None:
        """Returns when everything published before is with the operating system.

        This is how a publisher waits for a slow network: nats-py's own forced flush, at
        ``pending_size``, would swallow a cancellation, so that limit is set out of reach.
        """
        assert self._flush_queue is not None
        written = asyncio.get_running_loop().create_future()
        await self._flush_queue.put(written)
        await written

    async def ping(self) -> bool:
        """Returns when the broker has processed everything published before; False where the
        connection broke meanwhile.

        `flush` sends its PING ahead of what waits in the client's buffer, so that the answer says
        nothing about it.
        """
        await self.written()
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self._send_ping(pong)
        return await pong

    def abandon_pings(self) -> None:
        """The connection broke: nobody will answer."""
        for pong in self._pongs:
            if not pong.done():
                pong.set_result(False)

    async def forget(self, subscription: Subscription) -> None:
        """No message arrives for it any more. `unsubscribe` would cancel a handler at work."""
        self._remove_sub(subscription._id)
        await self._send_unsubscribe(subscription._id)

    async def finish(self, subscription: Subscription) -> None:
        """Returns when its handler has seen every message that waited."""
        await subscription._pending_queue.join()

    async def end(self, subscription: Subscription) -> None:
        """Cancel its handler, wait until that has ended: `close` does not wait."""
        task = subscription._wait_for_msgs_task
        subscription._stop_processing()
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait([task], timeout=HANDLER_PATIENCE_S)

    async def _flush_pending(self, force_flush: bool = False) -> None:
        """nats-py wakes a task of its own for every write, through a queue of futures."""
        if force_flush:
            await super()._flush_pending(force_flush)
        else:
            self._write_soon()

    def _write_soon(self) -> None:
        """Have the next turn of the loop write what this one published, in one packet."""
        if not self._is_write_due:
            self._is_write_due = True
            asyncio.get_running_loop().call_soon(self._write_pending)

    def _write_pending(self) -> None:
        """Where the network does not keep up, nats-py's task is left to wait for it; where there
        is no connection, the next one takes what waits."""
        self._is_write_due = False
        if not self.is_connected:
            return
        writer = self._idle_writer()
        if writer is None:
            self._wake_flusher()
            return
        writer.writelines(self._pending)
        self._pending = []
        self._pending_data_size = 0

    def _wake_flusher(self) -> None:
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    def _idle_writer(self) -> asyncio.WriteTransport | None:
        """The transport, where it takes more at once."""
        if not isinstance(self._transport, TcpTransport):
            return None
        assert self._transport._io_writer is not None
        writer = self._transport._io_writer.transport
        fits = writer.get_write_buffer_size() < UNSENT_BYTES and not writer.is_closing()
        return writer if fits else None

    async def close(self) -> None:
        """What waits for a connection is lost now: nats-py would write it to the one that broke,
        and leave everything else open when that fails."""
        if not self.is_connected:
            self._pending = []
            self._pending_data_size = 0
        await super().close()

    async def _process_pong(self) -> None:
        """A ping whose sender was cancelled would raise here and end the reading loop for good."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """The broker passes on subjects and header blocks that nobody can decode; nats-py's reading
        loop ends at the first one, and the connection is deaf until its pings time out."""
        try:
            if sid == self._replies_sid:
                await self._process_reply(subject, reply, data, headers)
                return
            self._check_addressee(sid, subject)
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, IndexError) as error:
            await self._error_cb(error)

    async def _process_reply(
        self, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Straight to whoever waits for it."""
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        if self._replies.is_awaited(subject):
            told = await self._process_headers(headers) if headers else None
            message = Message(subject.decode(), data, reply.decode(), told or {})
            self._replies.arrived(subject, message)

    def _check_addressee(self, sid: int, subject: bytes) -> None:
        """nats-py's parser ends a subject at a form feed, where the broker does not: so a publisher
        could choose by number which of our subscriptions hears him, whatever he may publish to."""
        subscription = self._subs.get(sid)
        if subscription is not None and not compiled(subscription._subject).fullmatch(subject):
            raise ValueError(f"{subject!r} is not for the subscription to {subscription._subject}")


def _header_block(headers: Headers) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def _time_out(reply: asyncio.Future[Message]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


async def _ignore(_: object) -> None:
    """Replies are taken before they get here."""
