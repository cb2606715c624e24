"""The engines as strategies see them: their heartbeats, and what was given out since.

Beats are half a second old. What this router has at an engine is counted exactly, flow by flow:
what it ordered there and has not heard the end of. What others have there is what the last beat
said beyond that:

```
slots or pages  |<- ours now ->|<- of others, by the last beat ->|<---- room ---->|
```
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, TypeAlias

from msgspec.structs import replace

from bus.fleet import Engine, Fleet
from bus.messages import Beat
from bus.ranking import Ranking

from .kinds import Kinds
from .known_engine import KnownEngine, Work
from .rooms import Rooms

Claims: TypeAlias = Mapping[str, int]
"""Pages that a flow may come to need, by engine. One claim takes one slot, too."""


class _Site:
    """The engines of one model, in several orders."""

    def __init__(self) -> None:
        self.ranking, self.rooms = Ranking(), Rooms()
        self.page_sizes: Counter[int] = Counter()
        self.kinds = Kinds()

    def put(self, known: KnownEngine) -> None:
        beat = known.beat
        self.ranking.put(known.engine())
        self.rooms.put(beat.engine, known.free_pages, beat.total_pages, beat.page_size)

    def drop(self, beat: Beat) -> None:
        self.ranking.drop(beat.engine)
        self.rooms.drop(beat.engine)
        self.page_sizes[beat.page_size] -= 1
        self.kinds.drop(beat.engine)


class Standing:
    """Pure. Brought up to date one engine at a time, so that a fleet costs little to ask for."""

    def __init__(self) -> None:
        self._known: dict[str, KnownEngine] = {}
        self._sites: dict[str, _Site] = defaultdict(_Site)
        """By model."""
        self._claims: dict[str, Claims] = {}
        self._works: dict[str, Mapping[str, Work]] = {}

    # --- what happened --------------------------------------------------------------------------

    def heard(self, beat: Beat, now: float) -> None:
        known = self._known.get(beat.engine)
        if known is not None and _is_same_place(known.beat, beat):
            known.update(beat, now)
            self._refresh(beat.engine)
            return
        self.lost(beat.engine)
        known = self._known[beat.engine] = self._newcomer(beat, now)
        known.update(beat, now)
        self._sites[beat.model].page_sizes[beat.page_size] += 1
        self._sites[beat.model].kinds.put(beat)
        self._refresh(beat.engine)

    def lost(self, engine: str) -> None:
        known = self._known.pop(engine, None)
        if known is not None:
            self._sites[known.beat.model].drop(known.beat)

    def claim(self, flow: str, claims: Claims) -> None:
        """What the flow has from now on; nothing where it has ended."""
        before = self._claims.pop(flow, {})
        if claims:
            self._claims[flow] = claims
        if claims == before:
            return
        for engine in {**before, **claims}:
            known = self._known.get(engine)
            if known is not None:
                known.flows += (engine in claims) - (engine in before)
                known.pages += claims.get(engine, 0) - before.get(engine, 0)
                self._refresh(engine)

    def work(self, flow: str, works: Mapping[str, Work]) -> None:
        """What the flow has engines do from now on; nothing where it has ended."""
        before = self._works.pop(flow, {})
        if works:
            self._works[flow] = works
        for engine in {**before, **works}:
            known, was, now = self._known.get(engine), before.get(engine), works.get(engine)
            if known is not None and was != now:
                known.prompt_tokens += (now or _IDLE).prompt_tokens - (was or _IDLE).prompt_tokens
                known.answers += (now or _IDLE).answers - (was or _IDLE).answers
                self._refresh(engine)

    def is_full(self, engine: str) -> None:
        """It refused for want of room: it has none until it says otherwise."""
        if engine in self._known:
            self._known[engine].is_full = True
            self._refresh(engine)

    # --- what there is --------------------------------------------------------------------------

    def pages(self, engine: str, num_tokens: int) -> int:
        """Pages of so many tokens at this engine, of which none can use more than there are."""
        known = self._known.get(engine)
        if known is None:
            return 0
        return min(-(-num_tokens // known.beat.page_size), known.beat.total_pages)

    def cached_tokens(self, pages: Mapping[str, int]) -> dict[str, int]:
        """Of so many pages, by engine; engines that are not there have none."""
        known = ((self._known[e], num) for e, num in pages.items() if e in self._known)
        return {k.beat.engine: num * k.beat.page_size for k, num in known}

    def has_room(self, claims: Claims) -> bool:
        """A new flow may have these: a slot and the pages at every engine that is alive."""
        known = ((self._known[e], pages) for e, pages in claims.items() if e in self._known)
        return all(k.slots > 0 and k.free_pages >= pages for k, pages in known)

    def adapters(self, model: str) -> list[str]:
        """Those that some engine of the model has, in order."""
        known = (self._known[e].beat.adapters for e in self.names(model))
        return sorted({adapter for adapters in known for adapter in adapters})

    def having(self, adapter: str, fleet: Fleet) -> Fleet:
        """The engines of ``fleet`` that have the adapter; all of it where none is wanted."""
        if not adapter:
            return fleet
        able = [e for e in fleet.engines if adapter in self._known[e.name].beat.adapters]
        return Fleet(tuple(able))

    def kinds(self, model: str) -> Kinds:
        """Of its engines, by whom they can exchange KV with."""
        return self._sites[model].kinds

    def page_sizes(self, model: str) -> set[int]:
        return {size for size, number in self._sites[model].page_sizes.items() if number}

    def fastest_prefill_per_s(self, model: str) -> float:
        """Tokens; 0 where nobody has measured it yet."""
        return self._sites[model].ranking.fastest

    def names(self, model: str) -> list[str]:
        """Of the engines of a model, in order."""
        return list(self._sites[model].ranking.engines)

    def names_having(self, model: str, adapter: str) -> list[str]:
        """As `names`, of those that have the adapter; of all where none is wanted."""
        return [
            name
            for name in self.names(model)
            if not adapter or adapter in self._known[name].beat.adapters
        ]

    def fleet(self, model: str, cached: Mapping[str, int], num_tokens: int = 0) -> Fleet:
        """The engines of a model for one flow that may come to ``num_tokens`` tokens; ``cached``
        has its pages by engine. An engine without pages for it has no credit."""
        site = self._sites[model]
        engines, changed = site.ranking.engines, dict[str, Engine]()
        for name, pages in cached.items():
            if name in engines:
                size = self._known[name].beat.page_size
                changed[name] = replace(engines[name], cached=pages * size)
        for name in site.rooms.short(num_tokens):
            changed[name] = replace(changed.get(name, engines[name]), credits=0)
        return Fleet.ranked(site.ranking.ranked().for_flow(changed))

    def check(self, claims: Mapping[str, Claims]) -> None:
        """
        Raises:
            AssertionError: what is counted is not what these flows have.
        """
        assert self._claims == {flow: has for flow, has in claims.items() if has}
        for name, known in self._known.items():
            held = [has[name] for has in claims.values() if name in has]
            assert (known.flows, known.pages) == (len(held), sum(held)), name
            works = [has[name] for has in self._works.values() if name in has]
            assert known.prompt_tokens == sum(w.prompt_tokens for w in works), name
            assert known.answers == sum(w.answers for w in works), name
            assert self._sites[known.beat.model].ranking.engines[name] == known.engine(), name

    def _newcomer(self, beat: Beat, now: float) -> KnownEngine:
        """With what flows may have there already: it was lost, and is back."""
        name = beat.engine
        held = [claims[name] for claims in self._claims.values() if name in claims]
        works = [works[name] for works in self._works.values() if name in works]
        return KnownEngine(
            beat,
            now,
            flows=len(held),
            pages=sum(held),
            prompt_tokens=sum(work.prompt_tokens for work in works),
            answers=sum(work.answers for work in works),
        )

    def _refresh(self, engine: str) -> None:
        known = self._known[engine]
        self._sites[known.beat.model].put(known)


def _is_same_place(one: Beat, other: Beat) -> bool:
    ours, theirs = (one.model, one.page_size), (other.model, other.page_size)
    return ours == theirs and one.compatibility == other.compatibility


_IDLE: Final = Work()
