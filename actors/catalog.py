"""What a router can serve flows with: the installed strategies, and versions that were loaded."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrations.machine import Strategy

from .versions import Activation, Ref, choose


class Serving(Struct, frozen=True):
    """One flow's strategy, from its beginning to its end."""

    ref: Ref
    strategy: Strategy


class Catalog:
    """Pure. A version that has failed here is not used any more, whatever the bucket says yet."""

    def __init__(self, installed: Mapping[str, Strategy], default: str) -> None:
        self._installed, self.default = installed, default
        self._loaded: dict[Ref, Strategy] = {}
        self._active: dict[str | None, Activation] = {}
        """By slot: an orchestration's name, or None for requests that name none."""
        self._withdrawn: set[Ref] = set()

    def load(self, ref: Ref, strategy: Strategy) -> None:
        self._loaded[ref] = strategy

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

    def is_active(self, slot: str | None) -> bool:
        """Something was put into service for it."""
        return slot in self._active

    def names(self) -> tuple[str, ...]:
        """What a request may ask for."""
        return tuple(sorted({*self._installed, *(slot for slot in self._active if slot)}))

    def serving(self, slot: str | None, flow: str) -> Serving | None:
        """Who serves a new flow; None where nobody can any more (its name was asked for and has no
        version left)."""
        if slot is not None:
            return self._named(slot, flow)
        for ref in (*self._refs(None, flow), Ref(self.default)):
            # What is installed stands for its name here, which may have versions of its own.
            found = self._first([ref]) if ref.number else self._named(ref.name, flow)
            if found is not None:
                return found
        return None

    def _named(self, name: str, flow: str) -> Serving | None:
        name = name or self.default
        return self._first([*self._refs(name, flow), Ref(name)])

    def _refs(self, slot: str | None, flow: str) -> tuple[Ref, ...]:
        activation = self._active.get(slot)
        return (choose(activation, flow), activation.base) if activation else ()

    def _first(self, refs: list[Ref]) -> Serving | None:
        found = ((ref, self._strategy(ref)) for ref in refs)
        return next((Serving(ref, strategy) for ref, strategy in found if strategy), None)

    def _strategy(self, ref: Ref) -> Strategy | None:
        if ref in self._withdrawn:
            return None
        return self._loaded.get(ref) or (None if ref.number else self._installed.get(ref.name))
