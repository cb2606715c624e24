"""Where flows wait for room, and are bound to engines when there is some.

Binding is late: only then is the strategy told of the flow, with the fleet as it is at that moment.
Strategies are pure, so they may be asked in vain: where one of the engines that it chooses has no
room, nothing has happened, and the flow goes on waiting.
"""

from __future__ import annotations

from collections import Counter

from bus.messages import Submitted
from bus.public import Rejected, Welcome
from observability.names import AHEAD, WAITS_FOR
from observability.spans import Attribute
from orchestrations.machine import Done

from .admission import Admission, AdmissionConfig, Waiter
from .claims import claims
from .effects import Effect, Record
from .flow import Flow
from .last_words import say
from .playing import Player, Step
from .table import Table


class Gate:
    def __init__(self, config: AdmissionConfig, table: Table, player: Player) -> None:
        self._config, self._table, self._player = config, table, player
        self._queues: dict[str, Admission] = {}
        """By model."""

    # --- one flow -------------------------------------------------------------------------------

    def arrive(self, flow: Flow, tag: str, now: float) -> list[Effect]:
        """A new flow: bound at once where nobody waits and there is room, or queued, or refused."""
        queue = self._queue(flow.model)
        if not len(queue):
            submitted, step = self._ask(flow)
            if _declines(flow, step):
                return self._reject(flow, submitted, step, tag, now)
            if self._has_room(flow, step):
                queue.charge(flow.waiter)
                return [_welcome(flow, tag), *self._bind(flow, submitted, step, now)]
        busy = queue.offer(flow.waiter, now)
        if busy is not None:
            flow.fault = "busy"
            return self._turn_away(flow, Done("refused", busy.message), tag, now)
        ahead: dict[str, Attribute] = {WAITS_FOR: "credit", AHEAD: len(queue) - 1}
        flow.trace.moved("Idle", "Asked", "Waiting", now, ahead)
        self._table.lookout.moved(flow, "Idle", "Asked", "Waiting")
        return [_welcome(flow, tag)]

    def leave(self, flow: Flow, done: Done, now: float) -> list[Effect]:
        """It does not wait any longer, and ends."""
        self._queue(flow.model).withdraw(flow.id)
        flow.state = done
        return self._player.end(flow, None, now)

    # --- everybody who waits --------------------------------------------------------------------

    def pump(self, now: float) -> list[Effect]:
        """Bind whoever can be, in order."""
        for flow in self._table.returned:
            if flow.id in self._table.flows:
                self._queue(flow.model).put_back(flow.waiter, now)
        self._table.returned.clear()
        effects: list[Effect] = []
        for model in [m for m, queue in self._queues.items() if len(queue)]:
            effects += self._pump(self._queues[model], now)
        return effects

    def overdue(self, now: float) -> list[Effect]:
        """End those who have waited beyond their deadline."""
        effects: list[Effect] = []
        for queue in self._queues.values():
            for waiter in queue.overdue(now):
                message = "timeout_s was over before an engine had room"
                effects += self.leave(self._flow(waiter), Done("timed_out", message), now)
        return effects

    def expected_waits_s(self, now: float) -> dict[str, float]:
        """Of a newcomer, by model."""
        newcomer = Waiter("", user="\0")  # nobody's name: he has had nothing yet
        return {m: queue.expected_wait_s(newcomer, now) for m, queue in self._queues.items()}

    def waiting(self) -> Counter[str]:
        return Counter({model: len(queue) for model, queue in self._queues.items()})

    # --- inside ---------------------------------------------------------------------------------

    def _queue(self, model: str) -> Admission:
        if model not in self._queues:
            self._queues[model] = Admission(self._config)
        return self._queues[model]

    def _flow(self, waiter: Waiter) -> Flow:
        return self._table.flows[waiter.flow]

    def _pump(self, queue: Admission, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while (waiter := queue.first()) is not None:
            flow = self._flow(waiter)
            submitted, step = self._ask(flow)
            if not self._has_room(flow, step):
                break
            queue.bind(flow.id, now)
            effects += self._bind(flow, submitted, step, now)
        return effects

    def _ask(self, flow: Flow) -> tuple[Submitted, Step]:
        submitted = Submitted(flow.request, self._table.fleet(flow))
        return submitted, self._player.ask(flow, submitted)

    def _has_room(self, flow: Flow, step: Step) -> bool:
        standing = self._table.standing
        wanted = claims(flow.request, step.state, (), step.commands, standing)
        return standing.has_room(wanted)

    def _bind(self, flow: Flow, submitted: Submitted, step: Step, now: float) -> list[Effect]:
        flow.is_waiting = False
        return self._player.take(flow, submitted, step, now)

    def _reject(
        self, flow: Flow, submitted: Submitted, step: Step, tag: str, now: float
    ) -> list[Effect]:
        assert isinstance(step.state, Done)
        flow.fault = "no_engine" if step.no_engine else "internal"
        flow.trace.moved("Idle", type(submitted).__name__, "Done", now)
        return self._turn_away(flow, step.state, tag, now)

    def _turn_away(self, flow: Flow, done: Done, tag: str, now: float) -> list[Effect]:
        """Before it was welcomed."""
        flow.state = done
        ended = self._player.end(flow, None, now)
        rejected = Rejected(flow.fault, done.message, tag)
        records = [effect for effect in ended if isinstance(effect, Record)]
        return [say(flow.request.reply, rejected), *records]


def _declines(flow: Flow, step: Step) -> bool:
    """The flow ends before it began; one of a loaded version at fault begins with another one."""
    return isinstance(step.state, Done) and not (step.fault and flow.serving.ref.number)


def _welcome(flow: Flow, tag: str) -> Effect:
    return say(flow.request.reply, Welcome(flow.id, len(flow.request.prompt), tag))
