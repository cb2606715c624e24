"""What two engines tell each other about a transfer, between and after the writes.

```
receiver --- the grant, through the router ---> sender
   <--- Open ---
   --- Opened | Refuse --->
   <=== writes ===   <--- Renew, while they make progress
   <--- Complete ---
   --- Done | Refuse --->
```

Either side may stop: the receiver with Revoke, which the sender answers with Ceased; the sender
with Ceased alone. Where the pages exist already, the sender lends them instead of writing:

```
   <--- Lend ---
   ===> reads ===>   --- Reading, while they make progress --->
   --- Taken --->
   <--- Agreed ---
```

The sender may ask for them back with Recall; the receiver stops, for that or another reason, with
Refuse. Every message names the grant by the receiver's serial number and the transfer by the
sender's.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from bus.messages import Reason
from bus.transfers import PoolShape

VERSION: Final = 2
"""Engines of different versions do not exchange KV."""


class ProtocolMessage(Struct, frozen=True, tag=True, array_like=True):
    grant: int
    transfer: int


class Open(ProtocolMessage, frozen=True):
    """Sender: I would write. Answered by `Opened` or `Refuse`; nothing is written before."""

    address: bytes
    """Where the sender's transport can be reached."""
    engine: str
    epoch: int
    """Of the receiver, as the grant says."""
    flow: str
    attempt: int
    begin: int
    end: int


class Opened(ProtocolMessage, frozen=True):
    """Receiver: write."""


class Refuse(ProtocolMessage, frozen=True):
    """Receiver: this grant does not hold, or not any more."""

    reason: Reason
    message: str


class Renew(ProtocolMessage, frozen=True):
    """Sender: there was progress; the lease counts from now."""


class Complete(ProtocolMessage, frozen=True):
    """Sender: everything has been written and flushed; I will write no more."""

    sums: bytes = b""
    """Of `kvtransport.checksums`, where they are asked for."""


class Done(ProtocolMessage, frozen=True):
    """Receiver: it is all here."""


class Revoke(ProtocolMessage, frozen=True):
    """Receiver: stop writing, and tell me when you have."""

    reason: str


class Ceased(ProtocolMessage, frozen=True):
    """Sender: I have stopped; nothing of mine is under way, and I will write no more."""

    reason: str
    kind: Reason = "transfer_failed"


class Lend(ProtocolMessage, frozen=True):
    """Sender: read them yourself. Answered by `Taken` or `Refuse`; they are not written before."""

    pages: tuple[tuple[int, int], ...]
    """(first page, number of pages) runs in the sender's pool, for the granted pages in order."""
    shape: PoolShape
    """Of the sender's pool."""
    memory: bytes
    """What the sender's transport gives peers so that they may read its pool."""
    checked: bool = False
    """Whether `Taken` is to say what the sums are of what was read."""


class Reading(ProtocolMessage, frozen=True):
    """Receiver: I am still at it; the lease counts from now."""


class Recall(ProtocolMessage, frozen=True):
    """Sender: stop reading, and tell me when you have."""

    reason: str


class Taken(ProtocolMessage, frozen=True):
    """Receiver: I have read everything. Answered by `Agreed`, or by `Ceased` if it was too late."""

    num_runs: int
    lane: str
    read_s: float
    sums: bytes = b""


class Agreed(ProtocolMessage, frozen=True):
    """Sender: the pages were still lent, so that what you have read is right."""


FromSender: TypeAlias = Open | Renew | Complete | Ceased | Lend | Recall | Agreed
FromReceiver: TypeAlias = Opened | Refuse | Done | Revoke | Reading | Taken
AnyProtocolMessage: TypeAlias = FromSender | FromReceiver
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyProtocolMessage] = msgspec.msgpack.Decoder(AnyProtocolMessage)


def encode(message: AnyProtocolMessage) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> AnyProtocolMessage:
    """Raises msgspec.MsgspecError where ``data`` is no such message."""
    return _decoder.decode(data)
