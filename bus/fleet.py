"""The engines as a value: a snapshot that an event carries, so that a strategy can stay pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Role: TypeAlias = Literal["prefill", "decode", "both"]


class NoEngine(LookupError):
    """No live engine can play the role that was asked for."""

    def __init__(self, role: Role, known: tuple[str, ...] = ()) -> None:
        super().__init__(
            f"no engine for {role!r}; the fleet has " + (", ".join(known) or "no engines")
        )
        self.role = role


class Engine(Struct, frozen=True):
    """One engine as its last heartbeat described it."""

    name: str
    role: Role = "both"
    load: int = 0
    """Requests waiting or running."""
    free_pages: int = 0
    epoch: int = 0

    def plays(self, role: Role) -> bool:
        return role == "both" or self.role in (role, "both")


class Fleet(Struct, frozen=True):
    """The engines of one model that were alive when the event was made."""

    engines: tuple[Engine, ...] = ()

    def able(self, role: Role) -> tuple[Engine, ...]:
        """Those that can play the role, least loaded first, ties by name."""
        able = sorted((e for e in self.engines if e.plays(role)), key=lambda e: (e.load, e.name))
        if not able:
            raise NoEngine(role, tuple(f"{e.name} ({e.role})" for e in self.engines))
        return tuple(able)

    def least_loaded(self, role: Role = "both") -> str:
        return self.able(role)[0].name

    def pair(self) -> tuple[str, str]:
        """A prefiller and a decoder; the same engine twice only where nobody else is able."""
        prefill, decode = self.able("prefill"), self.able("decode")
        if prefill[0] != decode[0]:
            return prefill[0].name, decode[0].name
        second = [(p, decode[0]) for p in prefill[1:2]] + [(prefill[0], d) for d in decode[1:2]]
        best = min(second, key=lambda p: (p[0].load + p[1].load, p[0].name), default=None)
        first = prefill[0].name
        return (best[0].name, best[1].name) if best else (first, first)

    def without(self, name: str) -> Fleet:
        return Fleet(tuple(e for e in self.engines if e.name != name))
