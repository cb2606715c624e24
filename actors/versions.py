"""Versions of strategies, which of them serve whom, and how that changes: values and functions.

A *slot* is what requests ask for: a strategy's name, or nothing (``default``). What serves a slot
is its activation: a candidate for a share of the flows, and for the rest what was there before.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from msgspec import Struct

DEFAULT_SLOT: Final = "default"
INSTALLED: Final = 0
"""The number of the version that came with the program."""


class Ref(Struct, frozen=True, order=True):
    """One version of one strategy. Without a name it is the strategy that a router was started with
    for requests which name none."""

    name: str
    number: int = INSTALLED

    def __str__(self) -> str:
        return f"{self.name or 'default'}@{self.number or 'installed'}"


class Version(Struct, frozen=True):
    """A strategy's file as it was loaded."""

    name: str
    number: int
    text: str
    origin: str
    """Where it was loaded from; for people."""
    verdict: str
    """What the check said, in a line."""

    @property
    def ref(self) -> Ref:
        return Ref(self.name, self.number)


class Activation(Struct, frozen=True):
    """What serves the flows of one slot."""

    candidate: Ref
    share: float
    """Of the slot's flows that the candidate gets; ``base`` has the rest."""
    base: Ref
    reason: str = ""
    """Why it came to be, in words."""
    withdrawn: Ref | None = None
    """The version whose failure brought this about."""


class BadActivation(ValueError):
    """It cannot be; the text says what would do."""


def slot_key(slot: str | None) -> str:
    """The slot's key in the bucket; None is that of requests which name no orchestration."""
    return f"active.{DEFAULT_SLOT}" if slot is None else f"active.named.{slot}"


def slot_of(key: str) -> str | None:
    """The inverse of `slot_key`."""
    return None if key == slot_key(None) else key.removeprefix("active.named.")


def version_key(ref: Ref) -> str:
    return f"version.{ref.name}.{ref.number}"


# --- choosing -----------------------------------------------------------------------------------


def fraction(flow: str) -> float:
    """A number in [0, 1) that is the flow's for ever, the same at every router."""
    return int.from_bytes(blake2b(flow.encode(), digest_size=7).digest(), "big") / 2**56


def choose(activation: Activation, flow: str) -> Ref:
    """The version that serves a new flow. A flow that gets the candidate at some share gets it at
    every larger one, too."""
    return activation.candidate if fraction(flow) < activation.share else activation.base


# --- changing -----------------------------------------------------------------------------------


def activated(now: Activation | None, ref: Ref, share: float, installed: Ref) -> Activation:
    """The activation after ``ref`` was put into service for a share of the flows.

    What serves the rest is whatever served all or most of them: a candidate on trial is replaced by
    the new one, not kept beside it.

    Raises:
        BadActivation: the share is not one.
    """
    if not 0 < share <= 1:
        raise BadActivation(f"a share of {share:.0%}: give more than 0 %, up to 100 %")
    base = settled(now, installed)
    if base == ref and now is not None:
        base = now.base
    return Activation(ref, share, base, f"activated for {share:.0%}")


def settled(now: Activation | None, installed: Ref) -> Ref:
    """What serves a slot but for a trial."""
    if now is None:
        return installed
    return now.candidate if now.share == 1 else now.base


def rolled_back(history: Sequence[Activation], installed: Ref) -> Activation:
    """The newest activation undone: ``history`` has it last, and those before it, oldest first.

    Raises:
        BadActivation: there is nothing to go back from.
    """
    if not history or (history[-1].candidate == installed and history[-1].base == installed):
        raise BadActivation("what is installed serves already: there is nothing to roll back")
    now = history[-1]
    earlier = (a for a in reversed(history[:-1]) if a.share == 1 and a.candidate == now.base)
    before = next((a.base for a in earlier if a.base != now.candidate), installed)
    return Activation(now.base, 1.0, before, f"rolled back from {now.candidate}")


def without(now: Activation, ref: Ref, installed: Ref, reason: str) -> Activation | None:
    """The activation after a version was withdrawn; None where it has no part in this one."""
    if ref not in (now.candidate, now.base) or ref == installed:
        return None
    why = f"{ref} was withdrawn: {reason}"
    if now.candidate == ref:
        base = installed if now.base == ref else now.base
        return Activation(base, 1.0, installed, why, withdrawn=ref)
    return Activation(now.candidate, now.share, installed, why, withdrawn=ref)
