"""The front door for other people's programs: connect, ask, read tokens."""

from __future__ import annotations

from actors.client import Client, GenerateError, NoRouter, RequestRejected
from actors.connect import connect
from bus.public import ChatMessage, Delta, Done, GenerateRequest, Welcome

__version__ = "0.1.0"

__all__ = [
    "ChatMessage",
    "Client",
    "Delta",
    "Done",
    "GenerateError",
    "GenerateRequest",
    "NoRouter",
    "RequestRejected",
    "Welcome",
    "connect",
]
