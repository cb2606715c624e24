"""The router's flows as others may watch them: kept only while somebody looks.

The player of transitions tells of every move. Without a watcher that costs one comparison; with
one, what moved is gathered and told a few times a second, each flow once, however often it moved.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping

from msgspec import Struct

from bus.moves import LEASE_S, Ending, Moves, Passage, Sighting, Watching
from bus.tokens import Tokens
from observability.spans import Span

from .flow import Flow


class Bounds(Struct, frozen=True):
    """How much is told at once, and kept."""

    seen: int = 1024
    """Flows in one message; the rest is told of in the next one."""
    whole: int = 2048
    """Flows in a message after which nothing holds that was told before; the rest as above. With
    names as long as they may be that is half of the megabyte that a broker takes at the least."""
    ended: int = 1024
    """Flows that end between two messages. Where there are more, the next one begins anew."""
    kept: int = 256
    """Flows that are over and can still be looked at."""


class Looked(Struct, frozen=True, tag=True):
    """All that a router knows of one flow."""

    flow: str
    model: str
    strategy: str
    state: str
    attempt: int
    prompt: Tokens
    answers: tuple[Tokens, ...]
    """By choice."""
    engines: tuple[str, ...]
    spans: tuple[Span, ...]
    """The router's; of a flow that goes on, those that are open end now."""


class Unseen(Struct, frozen=True, tag=True):
    """This router does not have the flow, or has it no more."""


class Lookout:
    """Pure. ``flows`` are all that are in flight, by id; it is read, never changed."""

    def __init__(
        self,
        router: str,
        flows: Mapping[str, Flow],
        bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    ) -> None:
        self._router, self._flows, self._bounds = router, flows, bounds
        self._until_s = float("-inf")
        self.is_watched = self._whole = False
        self._sequence = 0
        self._moved: dict[str, None] = {}
        self._passed: Counter[tuple[str, str, str, str]] = Counter()
        self._ended: list[Ending] = []
        self._kept: OrderedDict[str, Looked] = OrderedDict()

    # --- what happens ---------------------------------------------------------------------------

    def watched(self, watching: Watching, now: float) -> None:
        """Somebody looks, for so long as a lease holds."""
        self._whole = self._whole or watching.whole or not self.is_watched
        self.is_watched, self._until_s = True, now + LEASE_S

    def moved(self, flow: Flow, before: str, event: str, after: str) -> None:
        """A flow made one transition."""
        if self.is_watched:
            self._moved[flow.id] = None
            self._passed[str(flow.serving.ref), before, event, after] += 1

    def ended(self, flow: Flow, spans: tuple[Span, ...], now: float) -> None:
        """It is over, and about to be forgotten."""
        if not self.is_watched:
            return
        self._moved.pop(flow.id, None)
        if len(self._ended) < self._bounds.ended:
            self._ended.append(_ending(flow, now))
        else:
            self._whole = True  # so that nobody goes on believing in it
        self._kept[flow.id] = _looked(flow, spans)
        if len(self._kept) > self._bounds.kept:
            self._kept.popitem(last=False)

    # --- what is told ---------------------------------------------------------------------------

    def tick(self, now: float) -> Moves | None:
        """What is to be told now; None where nobody looks."""
        if not self.is_watched:
            return None
        if now > self._until_s:
            self._forget()
            return None
        whole, self._whole = self._whole, False
        if whole:
            self._moved = dict.fromkeys(self._flows)
        self._sequence += 1
        seen = tuple(self._take(self._bounds.whole if whole else self._bounds.seen))
        passed = tuple(Passage(*edge, count) for edge, count in self._passed.items())
        ended = tuple(self._ended)
        self._passed.clear()
        self._ended.clear()
        return Moves(self._router, self._sequence, now, whole, seen, passed, ended)

    def look(self, flow: str, now: float) -> Looked | Unseen:
        """All about one flow; of one that is over, only where somebody looked when it ended."""
        if flow in self._flows:
            going_on = self._flows[flow]
            return _looked(going_on, going_on.trace.so_far(now))
        return self._kept.get(flow) or Unseen()

    def _take(self, limit: int) -> list[Sighting]:
        chosen = list(self._moved)[:limit]
        for flow in chosen:
            del self._moved[flow]
        return [sighting(self._flows[flow]) for flow in chosen if flow in self._flows]

    def _forget(self) -> None:
        self.is_watched = self._whole = False
        self._sequence = 0
        for kept in (self._moved, self._passed, self._ended, self._kept):
            kept.clear()


def sighting(flow: Flow) -> Sighting:
    engines, ref = tuple(sorted(flow.touched)), str(flow.serving.ref)
    return Sighting(flow.id, ref, _state(flow), flow.began_s, engines, flow.num_tokens)


def _state(flow: Flow) -> str:
    return "Waiting" if flow.is_waiting and flow.done is None else type(flow.state).__name__


def _ending(flow: Flow, now: float) -> Ending:
    ttft_s = None if flow.first_token_s is None else flow.first_token_s - flow.began_s
    outcome = flow.done.outcome if flow.done else ""
    ref = str(flow.serving.ref)
    return Ending(flow.id, ref, outcome, now - flow.began_s, flow.num_tokens, ttft_s)


def _looked(flow: Flow, spans: tuple[Span, ...]) -> Looked:
    return Looked(
        flow.id,
        flow.model,
        str(flow.serving.ref),
        _state(flow),
        flow.attempt,
        flow.request.prompt,
        tuple(Tokens(answer) for _, answer in sorted(flow.answers.items())),
        tuple(sorted(flow.touched)),
        spans,
    )
