"""Whoever has not the pages is found, as by looking at everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.rooms import Rooms

sizes = st.tuples(st.integers(0, 5), st.integers(1, 5), st.sampled_from((4, 16)))
"""(free, total, tokens of a page)."""
changes = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | sizes), max_size=20)


@given(changes, st.integers(0, 100))
def test_an_engine_is_short_of_room_where_the_request_needs_more_pages_than_are_free(
    told: list[tuple[str, tuple[int, int, int] | None]], num_tokens: int
) -> None:
    rooms, there = Rooms(), dict[str, tuple[int, int, int]]()
    for name, size in told:
        if size is None:
            rooms.drop(name)
            there.pop(name, None)
        else:
            there[name] = (min(size[0], size[1]), *size[1:])
            rooms.put(name, *there[name])

    short = set(rooms.short(num_tokens))

    needed = {n: min(-(-num_tokens // page), total) for n, (_, total, page) in there.items()}
    assert short == {name for name, (free, *_) in there.items() if free < needed[name]}
