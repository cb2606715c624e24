"""The front door for other people's programs: connect, ask, read tokens."""

from __future__ import annotations

from actors.client import Client
from actors.client_errors import (
    BadRequest,
    Busy,
    ConnectionLost,
    GenerateError,
    GenerationFailed,
    NoEngine,
    NoRouter,
    RequestRejected,
    TooLong,
    UnclearModel,
)
from actors.connect import connect
from actors.session import Answer, Generation, Position, Session, Token
from bus.public import ChatMessage, Delta, Done, GenerateRequest, Welcome

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "BadRequest",
    "Busy",
    "ChatMessage",
    "Client",
    "ConnectionLost",
    "Delta",
    "Done",
    "GenerateError",
    "GenerateRequest",
    "Generation",
    "GenerationFailed",
    "NoEngine",
    "NoRouter",
    "Position",
    "RequestRejected",
    "Session",
    "Token",
    "TooLong",
    "UnclearModel",
    "Welcome",
    "connect",
]
