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
with Ceased alone. Every message names the grant by the receiver's serial number and the transfer
by the sender's.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from bus.messages import Reason


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


class Done(ProtocolMessage, frozen=True):
    """Receiver: it is all here."""


class Revoke(ProtocolMessage, frozen=True):
    """Receiver: stop writing, and tell me when you have."""

    reason: str


class Ceased(ProtocolMessage, frozen=True):
    """Sender: I have stopped; nothing of mine is under way, and I will write no more."""

    reason: str


AnyProtocolMessage: TypeAlias = Open | Opened | Refuse | Renew | Complete | Done | Revoke | Ceased
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyProtocolMessage] = msgspec.msgpack.Decoder(AnyProtocolMessage)


def encode(message: AnyProtocolMessage) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> AnyProtocolMessage:
    """Raises msgspec.MsgspecError where ``data`` is no such message."""
    return _decoder.decode(data)
