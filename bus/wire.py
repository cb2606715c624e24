"""What an engine asks of its KV transport. The engine knows no more of the network than this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .messages import Reason


class GrantRefused(Exception):
    """The grant cannot be used here; nothing was written and nothing is owed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


class Wire(Protocol):
    """One engine's end of the KV data path.

    Every call returns at once, from any thread. Outcomes come back as `bus.transfers` events,
    which whoever owns the engine hands to `Engine.handle`. (flow, attempt) names a transfer; an
    engine can be the receiver of one and the sender of another with other names, not both of one.
    """

    def grant(self, flow: str, attempt: int, begin: int, end: int, pages: Sequence[int]) -> bytes:
        """Let one writer fill ``pages``, in order, with the KV of tokens ``[begin, end)``.

        ``begin`` is a multiple of the page size. Ends in `Arrived`, or in `Fenced`.
        """
        ...

    def revoke(self, flow: str, attempt: int) -> None:
        """Take a grant back. Ends in `Fenced`, unless `Arrived` was on its way already; an
        unknown or ended grant is ignored."""
        ...

    def open(self, flow: str, attempt: int, grant: bytes, begin: int, end: int) -> None:
        """Begin a transfer of tokens ``[begin, end)`` into the granted pages.

        Raises:
            GrantRefused: the grant is unreadable, expired, of an incompatible layout, or for
                another range. What only the receiver can refuse comes later, as `SendFailed`.
        """
        ...

    def write(self, flow: str, attempt: int, layer: int, first: int, pages: Sequence[int]) -> None:
        """Copy ``layer`` of our ``pages`` into the granted pages number ``first``, ``first + 1``...

        Our pages must keep their content until `Delivered` or `SendFailed`.
        """
        ...

    def lend(self, flow: str, attempt: int, pages: Sequence[int]) -> None:
        """Instead of writing: let the receiver read ``pages``, which hold all that was granted.

        Nothing may have been written with this grant. Our pages must keep their content until
        `Delivered` or `SendFailed`. Many receivers may read the same pages at once, each with its
        own processor.
        """
        ...

    def finish(self, flow: str, attempt: int) -> None:
        """Everything has been written. Ends in `Delivered` or `SendFailed`."""
        ...

    def abort(self, flow: str, attempt: int) -> None:
        """Stop sending. Ends in `SendFailed`, unless `Delivered` was on its way already."""
        ...
