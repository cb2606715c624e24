"""Who goes next, and who had better be told at once that it will not work out.

Flows wait in one place, and bind to an engine only when there is room for them. The order:

1. the higher priority;
2. within a priority, the user who was served least (start-time fair queueing: each user has a clock
   that runs by the tokens of what he had; who comes back after a pause does not get what he left);
3. of one user's flows, the one with the earliest deadline, then the one that came first.

The queue is bounded, and nobody may fill it: a user may wait with as many flows as there are places
left, so one alone gets half of it, two a third each, and there is always room for a newcomer.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from itertools import count
from math import inf

from msgspec import Struct

from engine.rates import Rate


class AdmissionConfig(Struct, frozen=True):
    """Raises: ValueError: there is no place at all."""

    max_waiting: int = 1024

    def __post_init__(self) -> None:
        if self.max_waiting < 1:
            raise ValueError(f"max_waiting={self.max_waiting}: give at least 1")


class Waiter(Struct, frozen=True):
    """One flow that may have to wait."""

    flow: str
    user: str = ""
    priority: int = 0
    deadline_s: float = inf
    cost: int = 1
    """Tokens, of prompt and answer: what its user is charged."""
    service_s: float = 0.0
    """What its first token takes at the very least, once it has begun."""


class Busy(Struct, frozen=True):
    """It is refused, and why, in words."""

    message: str
    wait_s: float
    """How long it would have had to wait, as far as we know."""


class _Place(Struct, frozen=True, order=True):
    deadline_s: float
    serial: int
    waiter: Waiter


class Admission:
    """The queue for one model's engines. Pure: whoever asks says what time it is."""

    def __init__(self, config: AdmissionConfig) -> None:
        self._config = config
        self._places: dict[int, dict[str, list[_Place]]] = {}
        """By priority, then by user, each list in order."""
        self._by_flow: dict[str, _Place] = {}
        self._serials = count()
        self._virtual = 0.0
        """Where the fair clock is: at what the last to be served had before."""
        self._served: dict[str, float] = {}
        """The clocks of users who are ahead of it."""
        self._pace = _Pace()

    def __len__(self) -> int:
        return len(self._by_flow)

    def __contains__(self, flow: object) -> bool:
        return flow in self._by_flow

    # --- coming and going -----------------------------------------------------------------------

    def offer(self, waiter: Waiter, now: float) -> Busy | None:
        """Let it wait, or say why not."""
        busy = self._objection(waiter, now)
        if busy:
            return busy
        self.put_back(waiter, now)
        return None

    def put_back(self, waiter: Waiter, now: float) -> None:
        """Let it wait, whatever speaks against it: it had been let in before."""
        if not self._by_flow:
            self._pace.resume(now)
        place = _Place(waiter.deadline_s, next(self._serials), waiter)
        self._by_flow[waiter.flow] = place
        users = self._places.setdefault(waiter.priority, {})
        insort(users.setdefault(waiter.user, []), place, key=lambda p: (p.deadline_s, p.serial))

    def first(self) -> Waiter | None:
        """Who goes next; nothing changes."""
        if not self._by_flow:
            return None
        users = self._places[max(self._places)]
        user = min(
            users, key=lambda u: (self._clock(u), users[u][0].deadline_s, users[u][0].serial)
        )
        return users[user][0].waiter

    def bind(self, flow: str, now: float) -> None:
        """It has got its engines."""
        waiter = self.withdraw(flow)
        assert waiter is not None, f"{flow} did not wait"
        self.charge(waiter)
        self._pace.bound(now)

    def charge(self, waiter: Waiter) -> None:
        """It is served: its user's clock goes on. Also for who had not to wait at all."""
        begin = self._clock(waiter.user)
        self._virtual = max(self._virtual, begin)
        self._served[waiter.user] = begin + waiter.cost
        if len(self._served) > 2 * self._config.max_waiting:
            self._served = {u: at for u, at in self._served.items() if at > self._virtual}

    def withdraw(self, flow: str) -> Waiter | None:
        """It waits no more; None where it did not."""
        place = self._by_flow.pop(flow, None)
        if place is None:
            return None
        waiter = place.waiter
        users = self._places[waiter.priority]
        users[waiter.user].remove(place)
        if not users[waiter.user]:
            del users[waiter.user]
        if not users:
            del self._places[waiter.priority]
        return waiter

    def overdue(self, now: float) -> list[Waiter]:
        """Those whose deadline has passed."""
        return [p.waiter for p in self._by_flow.values() if p.deadline_s < now]

    # --- looking ahead --------------------------------------------------------------------------

    def expected_wait_s(self, waiter: Waiter, now: float) -> float:
        """How long it would wait at the pace at which flows were bound lately; 0 where that is not
        known, or where nobody waits."""
        if not self._by_flow:
            return 0.0
        return (sum(self._ahead(waiter)) + 1) * self._pace.interval_s(now)

    def _objection(self, waiter: Waiter, now: float) -> Busy | None:
        wait_s = self.expected_wait_s(waiter, now)
        left = self._config.max_waiting - len(self)
        own = sum(len(users.get(waiter.user, ())) for users in self._places.values())
        if own >= left:
            return Busy(
                f"{len(self)} requests wait already, {own} of them of the same user, who may have "
                f"as many as there are places left ({left}): ask again in {_seconds(wait_s)}",
                wait_s,
            )
        if now + wait_s + waiter.service_s > waiter.deadline_s:
            message = (
                f"the expected wait is {_seconds(wait_s)}, and a first token takes "
                f"{_seconds(waiter.service_s)} then, but timeout_s leaves "
                f"{_seconds(waiter.deadline_s - now)}: give it more, or ask again later"
            )
            return Busy(message, wait_s)
        return None

    def _ahead(self, waiter: Waiter) -> Iterator[int]:
        """How many go before it: all of higher priority; in its own, its user's that are due
        earlier, and of each other user as many as he gets turns until then."""
        for priority, users in self._places.items():
            if priority > waiter.priority:
                yield sum(map(len, users.values()))
        users = self._places.get(waiter.priority, {})
        own = sum(place.deadline_s <= waiter.deadline_s for place in users.get(waiter.user, ()))
        yield own
        yield from (min(len(p), own + 1) for user, p in users.items() if user != waiter.user)

    def _clock(self, user: str) -> float:
        return max(self._virtual, self._served.get(user, 0.0))


class _Pace:
    """How often a flow is bound while others wait."""

    def __init__(self) -> None:
        self._rate = Rate()
        self._since_s = 0.0
        self._num_bound = 0

    def resume(self, now: float) -> None:
        """The queue was empty until now."""
        self._since_s, self._num_bound = now, 0

    def bound(self, now: float) -> None:
        self._num_bound += 1
        if now > self._since_s:
            self._rate.add(self._num_bound, now - self._since_s)
            self._since_s, self._num_bound = now, 0

    def interval_s(self, now: float) -> float:
        """Where nothing has moved for longer than usual, that counts, too."""
        if not self._rate.per_s:
            return 0.0
        return max(1 / self._rate.per_s, min(now - self._since_s, 60.0))


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0):.1f} s" if seconds < inf else "for ever"
