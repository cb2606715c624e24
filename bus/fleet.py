"""The engines as a value: a snapshot that an event carries, so that a strategy can stay pure."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import ClassVar, Literal, TypeAlias

from msgspec import Struct

from .ranked import Ranked, Wait, busy, first_two, rate_of

Role: TypeAlias = Literal["prefill", "decode", "both"]


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

    @property
    def prefills_for_others(self) -> bool:
        """It has requests that other engines answer."""
        return self.load > self.decoding

    def missing(self, num_tokens: int) -> int:
        """How many of the first ``num_tokens`` of the prompt it has not cached."""
        return max(0, num_tokens - self.cached)

    def prefill_s(self, num_tokens: int) -> float:
        """Seconds that computing ``num_tokens`` takes it, once it has begun."""
        return num_tokens / rate_of(self)

    def wait_s(self, num_tokens: int) -> float:
        """Seconds until it would have the first ``num_tokens`` of the prompt: after what waits
        there already, and but for what it has cached. Days, where it has no credit."""
        return first_two((self,), num_tokens)[0].wait_s

    def transfer_s(self, num_tokens: int) -> float:
        """Seconds that the KV of so many tokens is on its way; 0 where nobody has measured it."""
        if not self.transfer_bytes_per_s:
            return 0.0
        return num_tokens * self.kv_bytes_per_token / self.transfer_bytes_per_s


class Fleet(Struct, frozen=True, dict=True):
    """The engines of one model that were alive when the event was made, for one flow.

    Wherever engines are chosen, ties go by name, and an engine without credit is chosen only where
    no other is able. A router's fleets know the order of their engines (`bus.ranked`), which is no
    part of the value: others find the same engines, by looking at all of them.
    """

    engines: tuple[Engine, ...] = ()
    _ranked: ClassVar[Ranked | None] = None

    @staticmethod
    def ranked(order: Ranked) -> Fleet:
        """The fleet of these engines, which knows their order."""
        fleet = Fleet(order.engines())
        known: dict[str, object] = vars(fleet)
        known["_ranked"] = order
        return fleet

    # --- who is there ---------------------------------------------------------------------------

    def engine(self, name: str) -> Engine:
        """The engine of this name.

        Raises:
            NoEngine: it is not there.
        """
        if self._ranked:
            found = self._ranked.engine(name)
        else:
            found = next((e for e in self.engines if e.name == name), None)
        if found is None:
            raise self._nobody(name)
        return found

    def group(self, name: str) -> Fleet:
        """The engines of a group; all of them where the group has none."""
        if self._ranked:
            members = Fleet.ranked(self._ranked.of_group(name))
        else:
            members = Fleet(tuple([e for e in self.engines if e.group == name]))
        return members if members.engines else self

    def without(self, name: str) -> Fleet:
        if self._ranked:
            return Fleet.ranked(self._ranked.without(name))
        return Fleet(tuple([e for e in self.engines if e.name != name]))

    @property
    def most_cached(self) -> int:
        """Tokens of the prompt that the engine has which has most of it."""
        if self._ranked:
            return self._ranked.most_cached()
        return max((e.cached for e in self.engines), default=0)

    @property
    def has_groups(self) -> bool:
        """Some engine is for somebody."""
        if self._ranked:
            return self._ranked.has_groups()
        return any(e.group for e in self.engines)

    @property
    def is_measured(self) -> bool:
        """All engines know how fast they are."""
        if self._ranked:
            return self._ranked.is_measured()
        return all(e.prefill_tokens_per_s for e in self.engines)

    # --- who is to be chosen --------------------------------------------------------------------

    def able(self, role: Role) -> tuple[Engine, ...]:
        """Those that can play the role, least loaded first.

        Raises:
            NoEngine: there are none; so do all that choose.
        """
        return tuple(sorted(self._able(role), key=busy))

    def least_loaded(self, role: Role = "both") -> str:
        if self._ranked:
            least = self._ranked.least_loaded(role)
        else:
            least = min([busy(e) for e in self._able(role)])[2]
        return self._somebody(least, role)

    def best_prefix(self, prompt: Sized, role: Role = "both") -> str:
        """The engine that would have the whole prompt first. What it has cached counts for it,
        what waits there against it: to follow the cache alone makes hot spots."""
        return self._somebody(self._first_two(role, len(prompt))[0].name, role)

    def pair(self, prompt: Sized = ()) -> tuple[str, str]:
        """A prefiller and a decoder, chosen as by `best_prefix`; the same engine twice where there
        is no other for one of the roles, so that who is left after a loss can go on."""
        size = len(prompt)
        prefill, other_prefill = self._first_two("prefill", size)
        decode, other_decode = self._first_two("decode", size)
        if prefill == decode and other_prefill.wait_s < other_decode.wait_s:
            prefill = other_prefill
        elif prefill == decode and other_decode.name:
            decode = other_decode
        one = self._somebody(prefill.name or decode.name, "both")
        return one, decode.name or one

    # --- inside ---------------------------------------------------------------------------------

    def _first_two(self, role: Role, num_tokens: int) -> tuple[Wait, Wait]:
        if self._ranked:
            return self._ranked.first_two(role, num_tokens)
        return first_two([e for e in self.engines if e.plays(role)], num_tokens)

    def _able(self, role: Role) -> Sequence[Engine]:
        able = [e for e in self.engines if e.plays(role)]
        if not able:
            raise self._nobody(role)
        return able

    def _somebody(self, name: str, wanted: str) -> str:
        if not name:
            raise self._nobody(wanted)
        return name

    def _nobody(self, wanted: str) -> NoEngine:
        return NoEngine(wanted, tuple(f"{e.name} ({e.role})" for e in self.engines))
