"""The index arithmetic of a batch against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import Sampling
from engine.ragged import GROUP_SLOTS, asked_of, lay_out, lay_out_tokens
from engine.runner import Choice, Row


def row(num_tokens: int, position: int, pages: list[int], *, asks: bool = True) -> Row:
    tokens = np.arange(100, 100 + num_tokens, dtype=np.int32)
    choices = (Choice(Sampling(), tokens, num_tokens),) if asks else ()
    return Row(tokens, position, np.array(pages, np.int32), choices)


def test_rows_stand_behind_each_other_with_the_slots_of_their_pages() -> None:
    chunk = row(3, 2, [5, 1], asks=False)
    single = row(1, 4, [0, 9])

    batch = lay_out([chunk, single], page_size=4)

    assert batch.tokens.tolist() == [100, 101, 102, 100]
    assert batch.positions.tolist() == [2, 3, 4, 4]
    assert batch.slots.tolist() == [42, 43, 8, 72]
    assert batch.ends.tolist() == [3]
    (only,) = batch.chunks
    assert (only.begin, only.end, only.position) == (0, 3, 2)
    assert only.slots.tolist() == [40, 41, 42, 43, 8]
    (group,) = batch.singles
    assert group.tokens.tolist() == [3]
    assert group.slots.tolist() == [[0, 1, 2, 3, 72]]


def test_the_ends_of_rows_are_asked_about_where_they_are() -> None:
    tokens, pages = np.arange(100, 106, dtype=np.int32), np.array([5, 1, 7], np.int32)
    several = Row(tokens, 3, pages, (Choice(Sampling(), tokens, 6),) * 2)

    asked = asked_of([row(3, 2, [5, 1], asks=False), several, row(1, 4, [0, 9])])

    assert [(r.tokens.tolist(), r.position, len(r.choices)) for r in asked] == [
        ([104, 105], 7, 2),
        ([100], 4, 1),
    ]
    assert lay_out(asked, page_size=4).slots.tolist() == [11, 56, 72]


def test_who_finds_contexts_by_their_pages_gets_no_slots_of_them() -> None:
    rows = [row(3, 2, [5, 1], asks=False), row(1, 4, [0, 9])]

    tokens, all_of_it = lay_out_tokens(rows, page_size=4), lay_out(rows, page_size=4)

    assert (tokens.chunks, tokens.singles) == ((), ())
    for name in ("tokens", "positions", "slots", "ends"):
        assert np.array_equal(getattr(tokens, name), getattr(all_of_it, name))


def test_shorter_contexts_of_a_group_repeat_their_last_slot() -> None:
    batch = lay_out([row(1, 3, [2]), row(1, 5, [7, 4])], page_size=4)

    (group,) = batch.singles
    assert group.lengths.tolist() == [4, 6]
    assert group.slots.tolist() == [[16, 17, 18, 19, 19, 19], [56, 57, 58, 59, 32, 33]]


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from([1, 1, 1, 2, 5, 40])),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([1, 4, 16]),
)
def test_every_token_is_in_one_place_and_reads_exactly_its_context(
    sizes: list[tuple[int, int]], page_size: int
) -> None:
    rows, next_page = [], 0
    for position, num_tokens in sizes:
        num_pages = -(-(position + num_tokens) // page_size)
        rows.append(row(num_tokens, position, list(range(next_page, next_page + num_pages))))
        next_page += num_pages

    batch = lay_out(rows, page_size)

    places = [place for chunk in batch.chunks for place in range(chunk.begin, chunk.end)]
    places += [place for group in batch.singles for place in group.tokens.tolist()]
    assert sorted(places) == list(range(sum(num_tokens for _, num_tokens in sizes)))
    first, contexts = 0, {}
    for one in rows:
        context = range(one.position + len(one.tokens))
        slots = [2 * page_size * int(one.pages[t // page_size]) + t % page_size for t in context]
        assert batch.slots[first : first + len(one.tokens)].tolist() == slots[one.position :]
        contexts[first] = slots
        first += len(one.tokens)
    for chunk in batch.chunks:
        assert chunk.slots.tolist() == contexts[chunk.begin]
    for group in batch.singles:
        assert len(group.tokens) == 1 or group.slots.size <= GROUP_SLOTS
        assert group.lengths.max() <= 2 * group.lengths.min()
        for place, length, slots in zip(group.tokens, group.lengths, group.slots, strict=True):
            assert slots[:length].tolist() == contexts[place]
            assert set(slots[length:].tolist()) <= {contexts[place][-1]}


@pytest.mark.parametrize("bad", [row(0, 4, [1]), row(2, 3, [1])])
def test_a_scheduler_that_forgets_tokens_or_pages_is_caught(bad: Row) -> None:
    with pytest.raises(AssertionError):
        lay_out([bad], page_size=4)
