"""nats-py's client without its detours: how messages are written, read, and matched to requests.

Each method says which detour of nats-py 2.16 it cuts short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from .handling import Handling
from .headers import header_block, read_headers
from .interface import Headers, Message
from .parser import QuickParser
from .replies import Replies
from .sturdy import SturdyClient
from .waiting import Waiting

UNSENT_BYTES: Final = 1 << 16
"""What the transport may hold before writing waits for it: where asyncio says "pause", too."""
_LINE_END: Final = b"\r\n"


class QuickClient(SturdyClient):
    """A client for which a message is one turn of the loop, not four."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = QuickParser(self)
        self._replies_sid = 0
        self._waiting: dict[int, Waiting] = {}
        """By the number of the subscription, for as long as messages may arrive for it."""
        self._is_write_due = False

    async def expect_replies(self) -> None:
        """Once, after `connect` and before `ask`."""
        self._replies = Replies(self.new_inbox())
        subscription = await self.subscribe(self._replies.pattern, cb=_ignore)
        self._replies_sid = subscription._id

    async def listen(
        self,
        handling: Handling,
        queue: str,
        max_pending: int,
        end: Callable[[], Awaitable[None]],
    ) -> Subscription:
        """Subscribe ``handling``; ``end`` is called where it was stopped while it handled."""
        native = await self.subscribe(handling.subject, queue, _ignore)
        waiting = Waiting(native, handling, max_pending)
        native._stop_processing()
        native._pending_queue = waiting  # type: ignore[assignment]
        work = asyncio.get_running_loop().create_task(waiting.work(end))
        native._wait_for_msgs_task = work  # type: ignore[assignment]
        self._waiting[native._id] = waiting
        return native

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self._waiting.pop(sid, None)

    def send(self, subject: str, payload: bytes, reply: str, headers: Headers | None) -> None:
        """Publish what was checked before; the next turn of the loop writes it.

        `publish` checks it again, and takes three coroutines and a full queue to get here.
        """
        if headers:
            block = header_block(headers)
            size = f"{len(block)} {len(block) + len(payload)}"
            head = f"HPUB {subject} {reply} {size}\r\n".encode() + block
        else:
            head = f"PUB {subject} {reply} {len(payload)}\r\n".encode()
        self._pending += (head, payload, _LINE_END)
        self._pending_data_size += len(head) + len(payload) + len(_LINE_END)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        self._write_soon()

    def has_room(self, unwritten_bytes: int) -> bool:
        """Whether there is a connection, and not so much to be written that one has to wait."""
        return self._status == self.CONNECTED and self._pending_data_size <= unwritten_bytes

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
        # One buffer, since uvloop takes longer to lay out many than to send them.
        writer.write(b"".join(self._pending))
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

    def take(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> bool:
        """A regular message goes to its handler's queue, a reply straight to whoever waits for it.

        False leaves it to `_process_msg`: there is no such subscription, its queue is full, or
        something about the message is odd.
        """
        told = read_headers(headers) if headers else {}
        if told is None or not subject.isascii() or not reply.isascii():
            return False
        name = subject.decode()
        if not name.isprintable():
            return False
        message = Message(name, data, reply.decode(), told)
        if sid == self._replies_sid:
            self._replies.arrived(subject, message)
        else:
            waiting = self._waiting.get(sid)
            if waiting is None or not waiting.put(message):
                return False
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        return True

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Messages that nats-py's parser has put together from pieces are as regular as others."""
        if not self.take(sid, subject, reply, data, headers or b""):
            await super()._process_msg(sid, subject, reply, data, headers)


def _time_out(reply: asyncio.Future[Message]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


async def _ignore(_: object) -> None:
    """Replies are taken before they get here."""
