"""A context and its forks share pages until one of them writes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import Sampling
from engine.context import Context
from engine.fake import FakeRunner, fake_card
from engine.pages import Pages
from engine.rank import Rank
from engine.runner import Choice, Ids, Row

SIZE = 4


def ids(*numbers: int) -> Ids:
    return np.array(numbers, np.int32)


class Device:
    """A fake model and the pages of its pool."""

    def __init__(self, num_pages: int = 32) -> None:
        self.pages = Pages(num_pages, SIZE)
        self.runner = FakeRunner(fake_card(num_pages=num_pages, page_size=SIZE))

    def context(self, tokens: Ids, capacity: int = 64) -> Context:
        return Context(self.pages, Rank.of(0, 0), tokens, capacity)

    def compute(self, context: Context, end: int | None = None) -> int:
        """The KV of tokens up to ``end``, then the token that follows them."""
        end = context.num_tokens if end is None else end
        context.grow(end)
        self.copy()
        begin = context.num_computed
        choice = Choice(Sampling(), context.tokens[:end], end)
        [[sampled]] = self.runner.run(
            [Row(context.tokens[begin:end], begin, context.table.copy(), (choice,))]
        )
        context.num_computed = end
        context.publish(end)
        return sampled.token

    def copy(self) -> None:
        copies = self.pages.take_copies()
        if copies:
            self.runner.page_memory.copy(np.array([*copies.values()]), np.array([*copies]))

    def decode(self, contexts: list[Context], firsts: list[int], count: int) -> list[list[int]]:
        """``count`` tokens of each after its first, which is said to follow; all in turns."""
        answers = [[first] for first in firsts]
        for _ in range(count):
            for context, answer in zip(contexts, answers, strict=True):
                context.append(answer[-1])
                answer.append(self.compute(context))
        return [answer[1:] for answer in answers]

    def check(self, *contexts: Context) -> None:
        self.pages.check_integrity(page for context in contexts for page in context.held())


@pytest.mark.parametrize("length", [3, 4, 9, 12])
def test_forks_go_their_own_ways_from_one_prompt(length: int) -> None:
    device, prompt = Device(), list(range(100, 100 + length))
    parent = device.context(ids(*prompt))
    device.compute(parent)
    forks = [parent.fork(n, length, length, 64) for n in (1, 2)]
    everybody = [parent, *forks]

    answers = device.decode(everybody, [7, 8, 9], 9)

    for n, answer in enumerate(answers):
        assert answer == device.runner.continuation([*prompt, 7 + n], 9)
    device.check(*everybody)


def test_a_fork_takes_no_page_until_it_writes_and_then_one_copy() -> None:
    device = Device()
    parent = device.context(ids(*range(10)))
    device.compute(parent)
    before = device.pages.num_in_use

    fork = parent.fork(1, 10, 10, 64)

    assert device.pages.num_in_use == before
    fork.append(5)
    assert fork.missing(11) == 1
    device.compute(fork)
    assert device.pages.num_in_use == before + 1
    assert fork.table[:2].tolist() == parent.table[:2].tolist()
    assert fork.table[2] != parent.table[2]


def test_who_is_left_alone_with_a_page_writes_into_it() -> None:
    device = Device()
    parent = device.context(ids(*range(10)))
    device.compute(parent)
    fork = parent.fork(1, 10, 10, 64)
    fork.append(5)
    last = int(fork.table[2])

    parent.drop()

    assert fork.missing(11) == 0
    device.compute(fork)
    assert fork.table[2] == last


def test_the_last_token_of_a_full_and_published_page_may_be_computed_again() -> None:
    """As a fork does that wants the logits of the prompt's last token."""
    device, prompt = Device(), list(range(8))
    parent = device.context(ids(*prompt))
    first = device.compute(parent)

    fork = parent.fork(1, 8, 7, 64)
    again = device.compute(fork)

    assert fork.num_pages == 2
    assert again == first == device.runner.continuation(prompt, 1)[0]
    assert device.decode([fork], [again], 5) == [device.runner.continuation([*prompt, again], 5)]
    device.check(parent, fork)


def test_a_fork_of_an_unfinished_prompt_computes_the_rest_itself() -> None:
    device, prompt = Device(), list(range(20))
    parent = device.context(ids(*prompt))
    device.compute(parent, 7)

    fork = parent.fork(1, 20, 20, 64)

    assert fork.num_computed == 7
    assert device.compute(fork) == device.runner.continuation(prompt, 1)[0]
    assert device.compute(parent) == device.runner.continuation(prompt, 1)[0]
    device.check(parent, fork)


def test_a_fork_shares_the_place_of_its_parent_in_the_queue() -> None:
    parent = Device().context(ids(1, 2, 3))
    rank = parent.rank

    assert rank < parent.fork(1, 3, 0, 8).rank < parent.fork(2, 3, 0, 8).rank < Rank.of(0, 1)


@settings(max_examples=60)
@given(data=st.data())
def test_whoever_forks_writes_and_drops_when_no_token_ever_depends_on_another_fork(
    data: st.DataObject,
) -> None:
    device = Device(num_pages=48)
    first = device.context(ids(*range(data.draw(st.integers(1, 13)))))
    device.compute(first)
    living = [first]
    for move in data.draw(st.lists(st.sampled_from(["fork", "write", "write", "drop"]))):
        context = data.draw(st.sampled_from(living))
        if move == "drop" and len(living) > 1:
            living.remove(context)
            context.drop()
        elif move == "fork" and len(living) < 6:
            end = data.draw(st.integers(1, context.num_tokens))
            living.append(context.fork(len(living), end, end - 1, 64))
        elif move == "write" and context.num_tokens < 30:
            if not context.num_pending:
                context.append(data.draw(st.integers(0, 999)))
            expected = device.runner.continuation(context.tokens.tolist(), 1)
            assert [device.compute(context)] == expected
        device.check(*living)
