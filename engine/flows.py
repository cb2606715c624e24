"""Which flows this engine knows, and which orders are new, repeated or too late."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from bus.messages import Order

from .generation import Generation
from .outcomes import Phase
from .reception import Reception
from .refusal import Refusal
from .sending import Sending
from .sequence import Sequence

Key: TypeAlias = tuple[str, int]
"""Flow and attempt: the name of a transfer."""


class Flow:
    """What one attempt of a flow has here. It is over when it has nothing."""

    def __init__(self, order: Order, verbs: set[str]) -> None:
        self.name, self.attempt, self.priority = order.flow, order.attempt, order.priority
        self.adapter = order.adapter
        self.verbs = verbs
        self.reception: Reception | None = None
        self.generation: Generation | None = None
        """The answer, or the first of several."""
        self.branches: list[Generation] = []
        """The others, once the prompt is computed."""
        self.sending: Sending | None = None
        self.refused: set[str] = set()
        """Those of ``verbs`` that were refused."""
        self.releasing = False
        """A `Release` waits for the fence."""
        self.untold: list[Phase] = []
        """Work on commands that will have no event of their own: `Released` tells of it."""

    @property
    def key(self) -> Key:
        return self.name, self.attempt

    @property
    def generations(self) -> list[Generation]:
        """All answers that are not over."""
        return [self.generation, *self.branches] if self.generation else self.branches

    @property
    def is_over(self) -> bool:
        return not (self.reception or self.generations or self.sending)

    def has(self, sequence: Sequence) -> bool:
        """It is still wanted."""
        return sequence is self.sending or sequence in self.generations

    def leave(self, generation: Generation) -> None:
        """One of the answers is over."""
        if generation is self.generation:
            self.generation = None
        else:
            self.branches.remove(generation)


class Ended(Struct, frozen=True):
    """What is remembered of a flow that is over."""

    attempt: int
    verbs: frozenset[str]


class Flows:
    """All flows that have something here, and a bounded memory of those that had.

    (flow, attempt, verb) is an order's identity. Of a flow, only the highest attempt is current;
    older ones may linger until a peer has let go of their pages, under their key only.
    """

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self._current: dict[str, Flow] = {}
        self._by_key: dict[Key, Flow] = {}
        self._ended: OrderedDict[str, Ended] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Flow]:
        """All with something here, those that linger, too."""
        return iter(self._by_key.values())

    def current(self, name: str) -> Flow | None:
        return self._current.get(name)

    def find(self, key: Key) -> Flow | None:
        return self._by_key.get(key)

    def is_repeat(self, order: Order) -> bool:
        """The order was taken before, and is going to be answered or was.

        Raises:
            Refusal: ``stale_attempt``, where the flow has moved on: to a higher attempt, to its
                end, or to its release.
        """
        flow, verb = self._current.get(order.flow), type(order.command).__name__
        if flow is None:
            self._check_ended(order, verb)
            return False
        if order.attempt < flow.attempt:
            raise stale(order, f"attempt {flow.attempt} has begun")
        if order.attempt > flow.attempt:
            return False
        if verb in flow.refused:
            raise stale(order, f"its {verb} was refused")
        if verb in flow.verbs:
            return True
        if flow.releasing:
            raise stale(order, "it is being released")
        return False

    def supersede(self, order: Order) -> Flow | None:
        """The older attempt that ``order`` puts an end to; it may linger but is not current. What
        comes of it now is too late, even where ``order`` itself is going to be refused."""
        flow = self._current.get(order.flow)
        if flow is None or flow.attempt >= order.attempt:
            return None
        del self._current[flow.name]
        self._remember(flow.name, Ended(order.attempt, frozenset()))
        return flow

    def open(self, order: Order) -> Flow:
        """The flow of an order that is neither stale nor a repeat, new where it is not there."""
        flow = self._current.get(order.flow)
        if flow is None:
            known = self._ended.pop(order.flow, None)
            same = known is not None and known.attempt == order.attempt
            flow = Flow(order, set(known.verbs) if known and same else set())
            self._current[flow.name] = self._by_key[flow.key] = flow
        assert flow.attempt == order.attempt
        return flow

    def end(self, flow: Flow) -> None:
        """It has nothing here any more; it is remembered, the longest gone is forgotten."""
        del self._by_key[flow.key]
        if self._current.get(flow.name) is flow:
            del self._current[flow.name]
            self._remember(flow.name, Ended(flow.attempt, frozenset(flow.verbs)))

    def close(self, order: Order) -> None:
        """Remember the release of a flow that has nothing here: what comes late is too late."""
        known = self._ended.get(order.flow)
        if known is None or known.attempt < order.attempt:
            self._remember(order.flow, Ended(order.attempt, frozenset(["Release"])))
        elif known.attempt == order.attempt:
            self._remember(order.flow, Ended(order.attempt, known.verbs | {"Release"}))

    def _remember(self, name: str, ended: Ended) -> None:
        self._ended[name] = ended
        self._ended.move_to_end(name)
        while len(self._ended) > self._remembered:
            self._ended.popitem(last=False)

    def _check_ended(self, order: Order, verb: str) -> None:
        known = self._ended.get(order.flow)
        if (order.flow, order.attempt) in self._by_key:
            raise stale(order, "it is being let go")
        if known is None or order.attempt > known.attempt:
            return
        if order.attempt < known.attempt:
            raise stale(order, f"attempt {known.attempt} was here")
        if "Release" in known.verbs:
            raise stale(order, "it was released")
        if verb in known.verbs:
            raise stale(order, f"its {verb} is over")


def stale(order: Order, why: str) -> Refusal:
    return Refusal(
        "stale_attempt",
        f"attempt {order.attempt} of flow {order.flow}: {why}; a new try needs a higher attempt",
    )
