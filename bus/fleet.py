"""The engines as a value: a snapshot that an event carries, so that a strategy can stay pure."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from math import inf
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

Role: TypeAlias = Literal["prefill", "decode", "both"]

NOMINAL_TOKENS_PER_S: Final = 1000.0
"""How fast an engine prefills that has not measured itself yet."""
TOKENS_PER_REQUEST: Final = 64
"""What a request that an engine has counts for, in tokens of somebody's prompt: it is in the way of
what comes after it, if only by a step at a time."""


_DAYS: Final = 10**9
"""Tokens that no engine computes in an hour."""


class NoEngine(LookupError):
    """No live engine can do what was asked for."""

    def __init__(self, wanted: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(
            f"no engine for {wanted!r}; the fleet has " + (", ".join(known) or "no engines")
        )
        self.wanted = wanted


class Engine(Struct, frozen=True):
    """One engine as its last heartbeat described it, and what the router knows besides.

    Rates are measured by the engine itself; 0 means that they are not known yet.
    """

    name: str
    role: Role = "both"
    load: int = 0
    """Requests waiting or running."""
    free_pages: int = 0
    epoch: int = 0
    cached: int = 0
    """Tokens at the start of *this flow's* prompt that are in its prefix cache, as far as the
    router knows."""
    waiting_tokens: int = 0
    """Tokens of prompts that it has yet to compute: of ours exactly, of other routers' as its last
    beat said."""
    prefill_tokens_per_s: float = 0.0
    decode_step_s: float = 0.0
    """How long a step takes now that decodes everything that runs."""
    transfer_bytes_per_s: float = 0.0
    kv_bytes_per_token: int = 0
    credits: int = 1
    """Requests that it takes on now; without one, a further request waits or is refused."""
    group: str = ""
    """Whom it is for, such as a topic or a tenant; empty is everybody."""
    prefill_share: float = 0.0
    """Of the last seconds, what it spent on prompts: 0 to 1."""
    decoding: int = 0
    """Answers that it decodes, or will once their prompts are there. Of other routers' requests,
    all."""
    decode_base_s: float = 0.0
    """Of a step that computes answers only, what it takes whatever the number of answers."""
    decode_row_s: float = 0.0
    """What each answer adds to it."""

    def plays(self, role: Role) -> bool:
        return role == "both" or self.role in (role, "both")

    def missing(self, num_tokens: int) -> int:
        """How many of the first ``num_tokens`` of the prompt it has not cached."""
        return max(0, num_tokens - self.cached)

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds that computing ``num_tokens`` takes it, once it has begun."""
        return num_tokens / (self.prefill_tokens_per_s or NOMINAL_TOKENS_PER_S)

    def wait_s(self, num_tokens: int) -> float:
        """Seconds until it would have the first ``num_tokens`` of the prompt: after what waits
        there already, and but for what it has cached. Days, where it has no credit."""
        return _first_two((self,), num_tokens)[0].wait_s

    def transfer_s(self, num_tokens: int) -> float:
        """Seconds that the KV of so many tokens is on its way; 0 where nobody has measured it."""
        if not self.transfer_bytes_per_s:
            return 0.0
        return num_tokens * self.kv_bytes_per_token / self.transfer_bytes_per_s


class Fleet(Struct, frozen=True):
    """The engines of one model that were alive when the event was made, for one flow.

    Wherever engines are chosen, ties go by name, and an engine without credit is chosen only where
    no other is able.
    """

    engines: tuple[Engine, ...] = ()

    def able(self, role: Role) -> tuple[Engine, ...]:
        """Those that can play the role, least loaded first.

        Raises:
            NoEngine: there are none; so do all that choose.
        """
        return tuple(sorted(self._able(role), key=lambda e: (e.credits <= 0, e.load, e.name)))

    def least_loaded(self, role: Role = "both") -> str:
        able = self._able(role)
        able = [e for e in able if e.credits > 0] or able
        least = min([e.load for e in able])
        return min([e.name for e in able if e.load == least])

    def best_prefix(self, prompt: Sized, role: Role = "both") -> str:
        """The engine that would have the whole prompt first. What it has cached counts for it,
        what waits there against it: to follow the cache alone makes hot spots."""
        return _first_two(self._able(role), len(prompt))[0].name

    def pair(self, prompt: Sized = ()) -> tuple[str, str]:
        """A prefiller and a decoder, chosen as by `best_prefix`; the same engine twice where there
        is no other for one of the roles, so that who is left after a loss can go on."""
        size = len(prompt)
        prefill, other_prefill = _first_two([e for e in self.engines if e.role != "decode"], size)
        decode, other_decode = _first_two([e for e in self.engines if e.role != "prefill"], size)
        if not (prefill.name or decode.name):
            raise self._nobody("both")
        if prefill == decode and other_prefill.wait_s < other_decode.wait_s:
            prefill = other_prefill
        elif prefill == decode and other_decode.name:
            decode = other_decode
        return prefill.name or decode.name, decode.name or prefill.name

    def engine(self, name: str) -> Engine:
        """The engine of this name.

        Raises:
            NoEngine: it is not there.
        """
        for engine in self.engines:
            if engine.name == name:
                return engine
        raise self._nobody(name)

    def group(self, name: str) -> Fleet:
        """The engines of a group; all of them where the group has none."""
        members = tuple([e for e in self.engines if e.group == name])
        return Fleet(members) if members else self

    def without(self, name: str) -> Fleet:
        return Fleet(tuple([e for e in self.engines if e.name != name]))

    def _able(self, role: Role) -> Sequence[Engine]:
        able: Sequence[Engine] = self.engines
        if role != "both":
            able = [e for e in able if e.role == role or e.role == "both"]
        if not able:
            raise self._nobody(role)
        return able

    def _nobody(self, wanted: str) -> NoEngine:
        return NoEngine(wanted, tuple(f"{e.name} ({e.role})" for e in self.engines))


class _Wait(NamedTuple):
    wait_s: float
    name: str


def _first_two(engines: Sequence[Engine], num_tokens: int) -> tuple[_Wait, _Wait]:
    """The two with the shortest waits; without a name where there is none. In line, for fleets of
    thousands."""
    first = second = _Wait(inf, "")
    enough, each, nominal = inf, TOKENS_PER_REQUEST, NOMINAL_TOKENS_PER_S
    for e in engines:
        missing = num_tokens - e.cached
        behind = e.waiting_tokens + each * e.load if e.credits > 0 else _DAYS
        tokens = behind + missing if missing > 0 else behind
        wait_s = tokens / (e.prefill_tokens_per_s or nominal)
        if wait_s <= enough:
            here = _Wait(wait_s, e.name)
            first, second = (here, first) if here < first else (first, min(here, second))
            enough = second.wait_s
    return first, second
