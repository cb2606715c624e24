"""Who goes next, who is refused, and that nobody is forgotten or favoured."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.admission import Admission, AdmissionConfig, Waiter


def admission(max_waiting: int = 1000) -> Admission:
    return Admission(AdmissionConfig(max_waiting))


def drained(queue: Admission) -> list[str]:
    """The flows in the order in which they go."""
    order: list[str] = []
    while (waiter := queue.first()) is not None:
        order.append(waiter.flow)
        queue.bind(waiter.flow, now=0.0)
    return order


# --- order --------------------------------------------------------------------------------------


def test_the_higher_priority_goes_first_then_the_earlier_deadline_then_who_came_first() -> None:
    queue = admission()
    for waiter in (
        Waiter("late", priority=0),
        Waiter("later", priority=0),
        Waiter("due", priority=0, deadline_s=9.0),
        Waiter("overdue", priority=0, deadline_s=5.0),
        Waiter("urgent", priority=1),
        Waiter("idle", priority=-1, deadline_s=1.0),
    ):
        queue.put_back(waiter, 0.0)

    assert drained(queue) == ["urgent", "overdue", "due", "late", "later", "idle"]


def test_users_take_turns_however_many_flows_one_of_them_has() -> None:
    queue = admission()
    for number in range(4):
        queue.put_back(Waiter(f"a{number}", user="a", cost=10), 0.0)
    for number in range(2):
        queue.put_back(Waiter(f"b{number}", user="b", cost=10), 0.0)

    assert drained(queue) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_who_asks_for_more_gets_fewer_turns() -> None:
    queue = admission()
    for number in range(2):
        queue.put_back(Waiter(f"large{number}", user="a", cost=30), 0.0)
    for number in range(4):
        queue.put_back(Waiter(f"small{number}", user="b", cost=10), 0.0)

    assert drained(queue) == ["large0", "small0", "small1", "small2", "large1", "small3"]


def test_who_was_away_does_not_get_what_he_left() -> None:
    queue = admission()
    for number in range(50):
        queue.put_back(Waiter(f"a{number}", user="a", cost=10), 0.0)
        queue.bind(f"a{number}", 0.0)
    for number in range(3):
        queue.put_back(Waiter(f"A{number}", user="a", cost=10), 0.0)
        queue.put_back(Waiter(f"b{number}", user="b", cost=10), 0.0)

    assert drained(queue) == ["b0", "A0", "b1", "A1", "b2", "A2"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), min_size=30, max_size=120),
)
def test_of_users_who_wait_all_the_time_none_is_ahead_by_more_than_two_flows(
    flows: list[tuple[str, int]],
) -> None:
    queue, left, served = admission(), Counter[str](), Counter[str]()
    largest = max(cost for _, cost in flows)
    for number, (user, cost) in enumerate(flows):
        queue.put_back(Waiter(str(number), user=user, cost=cost), 0.0)
        left[user] += 1

    while all(left[user] for user in "abc"):
        waiter = queue.first()
        assert waiter is not None
        queue.bind(waiter.flow, 0.0)
        left[waiter.user] -= 1
        served[waiter.user] += waiter.cost

        shares = [served[user] for user in "abc"]
        assert max(shares) - min(shares) <= 2 * largest


# --- refusals -----------------------------------------------------------------------------------


def test_nobody_fills_the_queue() -> None:
    queue = admission(max_waiting=8)
    taken = dict.fromkeys("abc", 0)
    for user in taken:
        while queue.offer(Waiter(f"{user}{taken[user]}", user=user), 0.0) is None:
            taken[user] += 1

    assert taken == {"a": 4, "b": 2, "c": 1}
    busy = queue.offer(Waiter("a4", user="a"), 0.0)
    assert busy is not None
    assert "7 requests wait already, 4 of them of the same user" in busy.message


def at_a_pace_of(interval_s: float) -> Admission:
    """A queue in which somebody waits, and from which one was bound every so often."""
    queue = admission()
    for number in range(11):
        queue.put_back(Waiter(str(number)), 0.0)
    for number in range(10):
        queue.bind(str(number), interval_s * (number + 1))
    return queue


def test_the_expected_wait_is_what_those_ahead_take_at_the_pace_of_late() -> None:
    queue = at_a_pace_of(2.0)

    assert queue.expected_wait_s(Waiter("new"), 20.0) == pytest.approx(4.0)
    assert queue.expected_wait_s(Waiter("new", priority=1), 20.0) == pytest.approx(2.0)
    assert queue.expected_wait_s(Waiter("new", deadline_s=30.0), 20.0) == pytest.approx(2.0)


def test_a_deadline_that_cannot_be_met_is_told_at_once_with_the_expected_wait() -> None:
    queue = at_a_pace_of(2.0)

    busy = queue.offer(Waiter("new", priority=1, deadline_s=21.9), 20.0)

    assert busy is not None
    assert busy.wait_s == pytest.approx(2.0)
    assert "the expected wait is 2.0 s" in busy.message
    assert "timeout_s leaves 1.9 s" in busy.message
    assert queue.offer(Waiter("new", priority=1, deadline_s=22.1), 20.0) is None


def test_what_it_takes_itself_counts_too() -> None:
    busy = admission().offer(Waiter("new", deadline_s=1.0, service_s=1.5), 0.0)

    assert busy is not None
    assert "a first token takes 1.5 s" in busy.message


def test_while_nothing_is_known_nobody_is_refused_for_it() -> None:
    queue = admission()
    for number in range(10):
        assert queue.offer(Waiter(str(number), deadline_s=0.1), 0.0) is None


def test_a_queue_that_does_not_move_is_not_expected_to() -> None:
    queue = at_a_pace_of(0.1)

    assert queue.expected_wait_s(Waiter("new"), 1.0 + 30.0) == pytest.approx(60.0)


def test_those_whose_deadline_has_passed_are_found() -> None:
    queue = admission()
    queue.put_back(Waiter("a", deadline_s=1.0), 0.0)
    queue.put_back(Waiter("b"), 0.0)

    assert [w.flow for w in queue.overdue(1.5)] == ["a"]


def test_a_queue_has_a_place() -> None:
    with pytest.raises(ValueError, match="give at least 1"):
        AdmissionConfig(0)


# --- whatever happens ---------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Everything that may happen to a queue, in any order, beside a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = admission(max_waiting=12)
        self.waiting: list[Waiter] = []
        self.number = 0
        self.now = 0.0

    @rule(
        user=st.sampled_from("abc"),
        priority=st.integers(-1, 1),
        due_s=st.sampled_from([1.0, 5.0, inf]),
        cost=st.integers(1, 9),
    )
    def offer(self, user: str, priority: int, due_s: float, cost: int) -> None:
        self.number += 1
        waiter = Waiter(str(self.number), user, priority, self.now + due_s, cost)
        if self.queue.offer(waiter, self.now) is None:
            self.waiting.append(waiter)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiter)

        assert self.queue.withdraw(waiter.flow) == waiter
        assert self.queue.withdraw(waiter.flow) is None

    @precondition(lambda self: self.waiting)
    @rule()
    def bind(self) -> None:
        waiter = self.queue.first()
        assert waiter is not None
        same = [w for w in self.waiting if w.priority == waiter.priority and w.user == waiter.user]
        assert waiter.priority == max(w.priority for w in self.waiting)
        assert waiter.deadline_s == min(w.deadline_s for w in same)
        self.queue.bind(waiter.flow, self.now)
        self.waiting.remove(waiter)

    @rule(seconds=st.sampled_from([0.1, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def what_waits_is_what_was_let_in_and_did_not_leave(self) -> None:
        assert len(self.queue) == len(self.waiting) <= 12
        assert all(w.flow in self.queue for w in self.waiting)
        assert (self.queue.first() is None) == (not self.waiting)
        expected = {w.flow for w in self.waiting if w.deadline_s < self.now}
        assert {w.flow for w in self.queue.overdue(self.now)} == expected


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)
