"""Why a command will not be carried out: raised where it is found, told to the router once."""

from __future__ import annotations

from bus.messages import Reason


class Refusal(Exception):
    """The command was not carried out and left nothing behind."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
