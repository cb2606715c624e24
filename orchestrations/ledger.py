"""The page ledger: which engines hold pages for a flow, from the commands and answers alone."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from bus.messages import (
    AnyCommand,
    Committed,
    Event,
    Finished,
    Refused,
    Release,
    Released,
    Sent,
)

from .answers import verb

TAKING: Final = frozenset({"PrepRecv", "RemoteSend", "StartGenerate"})
"""The verbs that make an engine hold pages."""
ON_THE_CONTEXT: Final = frozenset({"StartGenerate", "Commit"})
"""The verbs that use pages which an earlier `PrepRecv` reserved."""


class Hold(Struct, frozen=True, order=True):
    """An engine, and the verb that made it hold pages."""

    engine: str
    verb: str

    def __str__(self) -> str:
        return f"{self.engine} ({self.verb})"


class Ledger(Struct, frozen=True, cache_hash=True):
    """The pages of one flow that nobody has given back or asked back.

    Pages are taken when the command that needs them is sent: from then on the engine may have
    them. They are off the ledger when the engine says that it let go, when it is gone, and when
    a `Release` is on its way, since a `Release` always succeeds.
    """

    holds: frozenset[Hold] = frozenset()
    generators: frozenset[str] = frozenset()
    """Engines that were told to generate, and may have sent tokens to the user."""
    told: frozenset[Hold] = frozenset()
    """Every verb that an engine was ever told in this attempt, whatever came of it."""

    def commanded(self, command: AnyCommand) -> Ledger:
        """The ledger once a command is on its way."""
        entry, name = frozenset({Hold(command.engine, verb(command))}), verb(command)
        if isinstance(command, Release):
            return replace(self.lost(command.engine), told=self.told | entry)
        return Ledger(
            holds=self.holds | (entry if name in TAKING else frozenset()),
            generators=self.generators | ({command.engine} if name == "StartGenerate" else set()),
            told=self.told | entry,
        )

    def renewed(self) -> Ledger:
        """The ledger of a new attempt: whatever the engines were told before, they are told anew.
        What they hold they go on holding until they are released."""
        return replace(self, told=frozenset())

    def was_told(self, command: AnyCommand) -> bool:
        """Is this a repeat, which the engine takes for a duplicate and does not carry out?"""
        return Hold(command.engine, verb(command)) in self.told

    def was_released(self, engine: str) -> bool:
        """Then it refuses whatever it is told in this attempt."""
        return Hold(engine, "Release") in self.told

    def answered(self, engine: str, answer: Event) -> Ledger:
        """The ledger after what an engine said of a command that it owed an answer to."""
        match answer:
            case Finished() | Committed() | Released():
                return self._without_engine(engine)
            case Sent():
                return self._without(Hold(engine, "RemoteSend"))
            case Refused(refused, reason):
                broken = reason in ("transfer_failed", "corrupt")
                return self._refused(engine, refused, whole=broken)
        return self

    def lost(self, engine: str) -> Ledger:
        """The ledger without everything that this engine had a part in."""
        return replace(self._without_engine(engine), generators=self.generators - {engine})

    def _refused(self, engine: str, refused: str, whole: bool) -> Ledger:
        """A refused command leaves nothing behind; what an earlier one reserved stays, unless the
        transfer into it failed: such pages the engine has taken back itself."""
        if refused in ON_THE_CONTEXT and whole:
            return self.lost(engine)
        ledger = self._without(Hold(engine, refused))
        if refused != "StartGenerate":
            return ledger
        return replace(ledger, generators=self.generators - {engine})

    def _without_engine(self, engine: str) -> Ledger:
        return self._without(*(h for h in self.holds if h.engine == engine))

    def _without(self, *holds: Hold) -> Ledger:
        return replace(self, holds=self.holds.difference(holds))
