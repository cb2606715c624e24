"""Every subject of the system, made in one place from ids that cannot hold a wildcard."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What may stand between two dots: no dot, wildcard, space or user text of any length."""


class BadToken(ValueError):
    """A name that may not become a part of a subject."""

    def __init__(self, what: str, given: str) -> None:
        super().__init__(
            f"{what} {given[:80]!r} is not allowed: use 1 to 64 letters, digits, '_' or '-'"
        )
        self.what, self.given = what, given


def token(what: str, given: str) -> str:
    """``given``, if it may be one token of a subject; ``what`` names it in the error.

    Raises:
        BadToken: otherwise.
    """
    if not TOKEN.fullmatch(given):
        raise BadToken(what, given)
    return given


class Subjects(Struct, frozen=True):
    """The subjects under one namespace."""

    namespace: str = "ms"

    def __post_init__(self) -> None:
        token("namespace", self.namespace)

    def is_inside(self, subject: str) -> bool:
        """It is ours or the broker's own: an answer there would be taken for a command."""
        return subject.startswith((f"{self.namespace}.", "$"))

    def generate(self, model: str) -> str:
        return f"{self.namespace}.generate.{token('model', model)}"

    @property
    def every_generate(self) -> str:
        return f"{self.namespace}.generate.*"

    def command(self, engine: str, verb: str) -> str:
        return f"{self.namespace}.engine.{token('engine', engine)}.{token('verb', verb)}"

    def commands(self, engine: str) -> str:
        return f"{self.namespace}.engine.{token('engine', engine)}.*"

    def event(self, router: str) -> str:
        return f"{self.namespace}.router.{token('router', router)}.event"

    def tokens(self, router: str) -> str:
        return f"{self.namespace}.router.{token('router', router)}.tokens"

    def beat(self, engine: str) -> str:
        return f"{self.namespace}.beat.{token('engine', engine)}"

    @property
    def every_beat(self) -> str:
        return f"{self.namespace}.beat.*"

    def cache(self, engine: str) -> str:
        """Where an engine tells what its prefix cache has."""
        return f"{self.namespace}.cache.{token('engine', engine)}"

    @property
    def every_cache(self) -> str:
        return f"{self.namespace}.cache.*"

    def cache_snapshot(self, engine: str) -> str:
        """Where it is asked to tell everything again."""
        return f"{self.cache(engine)}.snapshot"

    @property
    def withdrawn(self) -> str:
        """Where a router tells that a version of an orchestration failed, and why."""
        return f"{self.namespace}.orchestration.withdrawn"

    def cancel(self, flow: str) -> str:
        return f"{self.namespace}.flow.{token('flow', flow)}.cancel"

    def move(self, flow: str) -> str:
        """Published to with the name of the engine that the flow is wished to go on at."""
        return f"{self.namespace}.flow.{token('flow', flow)}.move"

    @property
    def every_move(self) -> str:
        return f"{self.namespace}.flow.*.move"

    @property
    def watch(self) -> str:
        """Where whoever looks says so."""
        return f"{self.namespace}.watch"

    def moves(self, router: str) -> str:
        """Where a router tells of its flows, while somebody looks."""
        return f"{self.namespace}.router.{token('router', router)}.moves"

    @property
    def every_moves(self) -> str:
        return f"{self.namespace}.router.*.moves"

    def look(self, router: str) -> str:
        """Where a router is asked what it knows of one flow."""
        return f"{self.namespace}.router.{token('router', router)}.look"

    @property
    def every_cancel(self) -> str:
        return f"{self.namespace}.flow.*.cancel"


def last(subject: str) -> str:
    """The last token: the model, verb, engine or flow that matched a wildcard subscription."""
    return subject.rpartition(".")[2]
