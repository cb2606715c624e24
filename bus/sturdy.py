"""nats-py's client with what our guarantees need: it and `quick` touch its private parts.

Each method says which behaviour of nats-py 2.16 makes it necessary.
"""

from __future__ import annotations

import asyncio
from typing import Final

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from .matching import compiled

HANDLER_PATIENCE_S: Final = 1.0
"""How long a cancelled handler may take to end before it is left behind."""


class SturdyClient(Client):
    """A client that survives malformed messages and cancelled pings."""

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

    async def close(self) -> None:
        """What waits for a connection is lost now: nats-py would write it to the one that broke,
        and leave everything else open when that fails.

        It also cancels its reconnecting while that waits for the old connection to be closed, and
        so the very future that it waits for next: nobody has cancelled us.
        """
        if not self.is_connected:
            self._pending = []
            self._pending_data_size = 0
        try:
            await super().close()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise

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
            self._check_addressee(sid, subject)
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, IndexError) as error:
            await self._error_cb(error)

    def _check_addressee(self, sid: int, subject: bytes) -> None:
        """nats-py's parser ends a subject at a form feed, where the broker does not: so a publisher
        could choose by number which of our subscriptions hears him, whatever he may publish to."""
        subscription = self._subs.get(sid)
        if subscription is not None and not compiled(subscription._subject).fullmatch(subject):
            raise ValueError(f"{subject!r} is not for the subscription to {subscription._subject}")
        if not subject.decode(errors="replace").isprintable():
            raise ValueError(f"{subject!r} is no subject")
