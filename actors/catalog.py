"""What a router can serve flows with: strategies and policies, installed or loaded as versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct

from orchestrations.machine import Strategy
from orchestrations.policies import Policy

from .versions import Activation, Ref, choose


class Serving(Struct, frozen=True):
    """One flow's strategy, from its beginning to its end."""

    ref: Ref
    strategy: Strategy


class Deciding(Struct, frozen=True):
    """A policy, which is to name the flow's strategy."""

    ref: Ref
    policy: Policy


Found: TypeAlias = Serving | Deciding


class Installed(Struct, frozen=True):
    """What came with the program."""

    strategies: Mapping[str, Strategy]
    policies: Mapping[str, Policy] = {}
    default: str = "disaggregated"
    """Of the names of both: what serves requests that name none."""
    fallback: str = "data_parallel"
    """The strategy that serves where a policy fails."""

    def find(self, name: str) -> Found | None:
        if name in self.strategies:
            return Serving(Ref(name), self.strategies[name])
        return Deciding(Ref(name), self.policies[name]) if name in self.policies else None


class Catalog:
    """Pure. A version that has failed here is not used any more, whatever the bucket says yet."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed
        self._loaded: dict[Ref, Found] = {}
        self._active: dict[str | None, Activation] = {}
        """By slot: an orchestration's name, or None for requests that name none."""
        self._withdrawn: set[Ref] = set()

    def load(self, found: Found) -> None:
        """A version; nobody is served by it before it is activated."""
        self._loaded[found.ref] = found

    def activate(self, slot: str | None, activation: Activation | None) -> None:
        """None: what is installed serves again."""
        if activation is None:
            self._active.pop(slot, None)
        else:
            self._active[slot] = activation

    def withdraw(self, ref: Ref) -> bool:
        """False where it was withdrawn before."""
        is_new = ref not in self._withdrawn
        self._withdrawn.add(ref)
        return is_new

    def names(self) -> tuple[str, ...]:
        """What a request may ask for."""
        known = {*self._installed.strategies, *self._installed.policies}
        active = {slot for slot in self._active if slot and self._named(slot, "")}
        return tuple(sorted(known | active))

    def strategies(self) -> tuple[str, ...]:
        """Those of the names that stand for a strategy: what a policy may choose."""
        return tuple(n for n in self.names() if isinstance(self._named(n, ""), Serving))

    def serving(self, slot: str | None, flow: str) -> Found | None:
        """Who serves a new flow; None where nobody can any more (its name was asked for and has no
        version left)."""
        if slot is not None:
            return self._named(slot, flow)
        for ref in (*self._refs(None, flow), Ref(self._installed.default)):
            # What is installed stands for its name here, which may have versions of its own.
            found = self._find(ref) if ref.number else self._named(ref.name, flow)
            if found is not None:
                return found
        return None

    def fallback(self, flow: str) -> Serving | None:
        """Who serves a new flow where a policy has failed that cannot be withdrawn."""
        found = self._named(self._installed.fallback, flow)
        return found if isinstance(found, Serving) else None

    def _named(self, name: str, flow: str) -> Found | None:
        name = name or self._installed.default
        found = (self._find(ref) for ref in (*self._refs(name, flow), Ref(name)))
        return next((f for f in found if f is not None), None)

    def _refs(self, slot: str | None, flow: str) -> Iterator[Ref]:
        """Who is to serve a flow of this slot, and who else can. Where nothing but a candidate on
        trial serves a name, it serves all who ask for it."""
        activation = self._active.get(slot)
        if activation is not None:
            yield choose(activation, flow)
            yield activation.base
            if slot is not None:
                yield activation.candidate

    def _find(self, ref: Ref) -> Found | None:
        if ref in self._withdrawn:
            return None
        return self._loaded.get(ref) if ref.number else self._installed.find(ref.name)
