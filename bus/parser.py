"""Cuts what the broker sent into messages; what is not a whole one is for nats-py's own parser."""

from __future__ import annotations

from typing import Protocol

from nats.protocol.parser import AWAITING_MSG_PAYLOAD, CRLF_SIZE, Parser


class Receiver(Protocol):
    """What is told of every message. ``headers`` is a header block, or empty."""

    def take(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> bool:
        """Whether it was dealt with; otherwise nats-py's way is gone."""
        ...

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None: ...


class QuickParser(Parser):
    """nats-py's parser tries regular expressions on a buffer that it shortens twice a message. This
    one looks where messages begin and end, and leaves to it what else there may be: other protocol
    lines, messages that have arrived in part, and nonsense.

    The broker puts one space between two fields, and a subject ends nowhere else. nats-py ends it
    at a form feed too: see `SturdyClient._check_addressee`.
    """

    def __init__(self, receiver: Receiver) -> None:
        super().__init__(receiver)
        self._receiver = receiver

    async def parse(self, data: bytes = b"") -> None:
        """Take in the next bytes.

        Raises:
            nats.errors.ProtocolError: they are nothing that a NATS server says.
        """
        if self.state == AWAITING_MSG_PAYLOAD:
            missing = self.needed + CRLF_SIZE - len(self.buf)
            await super().parse(data[:missing])
            data = data[missing:]
        elif self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        end = await self._whole_messages(data)
        if end < len(data):
            await super().parse(data[end:])

    async def _whole_messages(self, data: bytes) -> int:
        """Hand on the messages that ``data`` begins with; returns where the rest begins."""
        begin, receiver = 0, self._receiver
        while (line_end := data.find(b"\r\n", begin)) >= 0:
            frame = _frame(data[begin:line_end].split(b" "))
            if frame is None:
                break
            sid, subject, reply, header_bytes, num_bytes = frame
            if not 0 <= header_bytes <= num_bytes:  # nonsense; it would lead us backwards
                break
            first = line_end + CRLF_SIZE
            last = first + num_bytes
            if len(data) < last + CRLF_SIZE:
                break
            headers, payload = data[first : first + header_bytes], data[first + header_bytes : last]
            if not receiver.take(sid, subject, reply, payload, headers):
                await receiver._process_msg(sid, subject, reply, payload, headers)
            begin = last + CRLF_SIZE
        return begin


def _frame(fields: list[bytes]) -> tuple[int, bytes, bytes, int, int] | None:
    """Subscription, subject, reply, and how many bytes of headers and in all follow this line:
    ``MSG subject sid [reply] bytes`` or ``HMSG subject sid [reply] header-bytes bytes``."""
    try:
        match fields:
            case [b"MSG", subject, sid, num_bytes]:
                return int(sid), subject, b"", 0, int(num_bytes)
            case [b"MSG", subject, sid, reply, num_bytes]:
                return int(sid), subject, reply, 0, int(num_bytes)
            case [b"HMSG", subject, sid, header_bytes, num_bytes]:
                return int(sid), subject, b"", int(header_bytes), int(num_bytes)
            case [b"HMSG", subject, sid, reply, header_bytes, num_bytes]:
                return int(sid), subject, reply, int(header_bytes), int(num_bytes)
    except ValueError:
        return None  # a size or a subscription that is no number: nats-py refuses it
    return None
