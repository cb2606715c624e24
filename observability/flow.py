"""The router's side of a trace: the transitions of one flow, played into spans.

```
microserve.request  |=====================================|      one root, from begin to `ended`
  Preparing         |====|                                       a span per state
    send PrepRecv   |===|                                        a span per command, `ordered` to
  Generating             |================================|      `answered`; its context travels
    send StartGenerate   |===============================|       to the engine in the headers
```

This is the only place where a router's spans are made. It is pure: the time is an argument, and the
same calls give the same spans with the same ids.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from . import names
from .open_span import OpenSpan
from .spans import (
    Attributes,
    Kind,
    Link,
    Span,
    SpanContext,
    SpanEvent,
    Told,
    derive,
    read,
    trace_id_of,
)

MAX_EVENTS: Final = 128
MAX_OPEN_COMMANDS: Final = 64
MAX_FINISHED: Final = 256

Key: TypeAlias = tuple[str, str, int]
"""Verb, engine, attempt: one command of a flow."""


class FlowTrace:
    """The spans of one flow, from its first transition to its last.

    Call `moved` for every transition, then `ordered` for every command it gave, `answered` for
    every completion event and `ended` once. No order of calls raises or makes a span twice: an
    answer to an unknown command and everything but late commands after the end are ignored.

    Memory is bounded: at most 128 events, 64 open commands and 256 spans that were not drained;
    what is over is counted in the root's attributes. A flow whose caller did not sample his trace
    gives contexts for the headers and no spans.
    """

    def __init__(self, flow: str, parent: SpanContext | None, now: float) -> None:
        self._flow = flow
        self._trace_id = parent.trace_id if parent else trace_id_of(flow)
        self._sampled = parent.sampled if parent else True
        self._num_opened = 0
        self._finished: deque[Span] = deque()
        self._num_dropped = 0
        self._events: list[SpanEvent] = []
        self._num_dropped_events = 0
        self._state: OpenSpan | None = None
        self._state_gave_commands = False
        self._commands: dict[Key, OpenSpan] = {}
        self._attempt: int | None = None
        self._newest: SpanContext | None = None
        self._over = False
        self._root = self._open(names.REQUEST, "server", parent, now, {})

    @property
    def context(self) -> SpanContext:
        """The root's, for whatever else belongs to this request."""
        return self._root.context

    @property
    def records(self) -> bool:
        """Whether anything that is said of it may be seen."""
        return self._sampled

    def about(self, told: Told) -> None:
        """What the root says of the request, besides what `ended` adds."""
        self._root.attributes.update(read(told))

    def moved(self, before: str, event: str, after: str, now: float, told: Told = None) -> None:
        """The strategy went from state ``before`` to ``after`` because of ``event``.

        ``told`` says why: the candidates and their scores, the tokens matched.
        """
        if self._over:
            return
        why = read(told)
        transition = {"before": before, "event": event, "after": after, **why}
        self._happened(SpanEvent(names.TRANSITION, now, transition))
        if before != after:
            self._leave_state(now)
            self._state = self._open(
                after, "internal", self.context, now, {names.STATE: after, **why}
            )
            self._state_gave_commands = False

    def ordered(self, verb: str, engine: str, attempt: int, now: float) -> SpanContext:
        """A command leaves for an engine; the result belongs into its headers.

        A repeat of a command that has not been answered is the same command, and gets the same
        context.
        """
        key = (verb, engine, attempt)
        known = self._commands.get(key)
        if known is not None:
            return known.context
        self._make_room(now)
        parent = self._state.context if self._state else self.context
        attributes = names.messaging("send", verb, engine, attempt)
        command = self._open(f"send {verb}", "producer", parent, now, attributes)
        command.links = self._link_to_earlier(attempt)
        self._commands[key] = command
        self._state_gave_commands = True
        self._newest = command.context
        return command.context

    def answered(
        self,
        verb: str,
        engine: str,
        attempt: int,
        now: float,
        told: Told = None,
        error: str | None = None,
    ) -> None:
        """The command's completion event arrived; ``error`` where it was refused or lost."""
        command = self._commands.pop((verb, engine, attempt), None)
        if command is not None:
            command.attributes.update(read(told))
            self._finish(command.closed(now, error))

    def renewed(self, now: float) -> None:
        """A new attempt begins: nobody waits any longer for what was ordered in the last one."""
        for key in list(self._commands):
            self._give_up(key, now)

    def ended(self, outcome: str, now: float, told: Told = None, error: str | None = None) -> None:
        """The flow is over. Commands nobody answered are closed and marked; so is the request."""
        if self._over:
            return
        self.renewed(now)
        self._leave_state(now, error)
        self._root.attributes.update({names.OUTCOME: outcome, **read(told)})
        self._count_dropped()
        self._finish(self._root.closed(now, error, tuple(self._events)))
        self._over = True

    def so_far(self, now: float) -> tuple[Span, ...]:
        """What `drain` would give, and what is still open, as if it ended now. Changes nothing."""
        opened = [*self._commands.values(), *([self._state] if self._state else [])]
        if self._over or not self.records:
            return tuple(self._finished)
        root = self._root.closed(now, events=tuple(self._events))
        return (*self._finished, *(one.closed(now) for one in opened), root)

    def drain(self) -> list[Span]:
        """The spans that ended since the last call, in the order they ended."""
        spans = list(self._finished)
        self._finished.clear()
        return spans

    def _open(
        self,
        name: str,
        kind: Kind,
        parent: SpanContext | None,
        now: float,
        attributes: Attributes,
    ) -> OpenSpan:
        # The flow is part of the id: a caller may send many requests in one trace.
        span_id = derive(self._trace_id, self._flow, name, self._num_opened)
        self._num_opened += 1
        context = SpanContext(self._trace_id, span_id, self._sampled)
        return OpenSpan(context, parent, name, kind, now, {**attributes, names.FLOW: self._flow})

    def _happened(self, event: SpanEvent) -> None:
        if len(self._events) < MAX_EVENTS:
            self._events.append(event)
        else:
            self._num_dropped_events += 1

    def _leave_state(self, now: float, error: str | None = None) -> None:
        """A state that took no time and gave no command, as the last one does, leaves no span."""
        state, self._state = self._state, None
        if state is not None and (self._state_gave_commands or now > state.begin_s or error):
            self._finish(state.closed(now, error))

    def _link_to_earlier(self, attempt: int) -> tuple[Link, ...]:
        """The first command of a new attempt points at the last one of the attempt before."""
        earlier, self._attempt = self._attempt, attempt
        if earlier is None or attempt <= earlier or self._newest is None:
            return ()
        return (Link(self._newest, {names.LINK: "previous attempt", names.ATTEMPT: earlier}),)

    def _make_room(self, now: float) -> None:
        if len(self._commands) >= MAX_OPEN_COMMANDS:
            self._give_up(next(iter(self._commands)), now)

    def _give_up(self, key: Key, now: float) -> None:
        command = self._commands.pop(key)
        command.attributes[names.UNANSWERED] = True
        self._finish(command.closed(now))

    def _finish(self, span: Span) -> None:
        if not self.records:
            return
        if len(self._finished) >= MAX_FINISHED:
            self._finished.popleft()
            self._num_dropped += 1
        self._finished.append(span)

    def _count_dropped(self) -> None:
        if self._num_dropped_events:
            self._root.attributes[names.DROPPED_EVENTS] = self._num_dropped_events
        if self._num_dropped:
            self._root.attributes[names.DROPPED_SPANS] = self._num_dropped
