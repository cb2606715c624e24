"""A context and its forks share pages until one of them writes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.context import Context
from engine.rank import Rank

from .device import Device, ids


def decode(
    device: Device, contexts: list[Context], firsts: list[int], count: int
) -> list[list[int]]:
    """``count`` tokens of each after its first, which is said to follow; all in turns."""
    answers = [[first] for first in firsts]
    for _ in range(count):
        for context, answer in zip(contexts, answers, strict=True):
            context.append(answer[-1])
            answer.append(device.compute(context))
    return [answer[1:] for answer in answers]


@pytest.mark.parametrize("length", [3, 4, 9, 12])
def test_forks_go_their_own_ways_from_one_prompt(length: int) -> None:
    device, prompt = Device(), list(range(100, 100 + length))
    parent = device.context(ids(*prompt))
    device.compute(parent)
    forks = [parent.fork(n, length, length, 64) for n in (1, 2)]
    everybody = [parent, *forks]

    answers = decode(device, everybody, [7, 8, 9], 9)

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
    assert decode(device, [fork], [again], 5) == [device.runner.continuation([*prompt, again], 5)]
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

    assert (
        rank
        < parent.fork(1, 3, 0, 8).rank
        < parent.fork(2, 3, 0, 8).rank
        < Rank.of(0, rank.serial + 1)
    )


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
