"""Ranges follow Python's negative indices and are never clipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ranges import num_pages, resolve
from engine.refusal import Refusal


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0, None, (0, 10)),
        (0, -1, (0, 9)),
        (-3, None, (7, 10)),
        (4, 4, (4, 4)),
        (10, None, (10, 10)),
        (-10, -10, (0, 0)),
    ],
)
def test_a_range_inside_the_prompt_is_resolved(
    begin: int, end: int | None, expected: tuple[int, int]
) -> None:
    assert resolve(begin, end, 10) == expected


@pytest.mark.parametrize(("begin", "end"), [(-11, None), (0, 11), (5, 4), (11, None), (0, -11)])
def test_a_range_outside_the_prompt_or_crossed_is_refused_with_its_numbers(
    begin: int, end: int | None
) -> None:
    with pytest.raises(Refusal, match=rf"begin={begin}, end={end} .* 0 <= begin <= end <= 10") as e:
        resolve(begin, end, 10)

    assert e.value.reason == "bad_range"


@given(st.integers(-30, 30), st.none() | st.integers(-30, 30), st.integers(0, 20))
def test_a_resolved_range_names_the_same_tokens_as_a_slice(
    begin: int, end: int | None, length: int
) -> None:
    try:
        first, last = resolve(begin, end, length)
    except Refusal:
        return

    assert list(range(length))[begin or 0 : end] == list(range(first, last))


@given(st.integers(0, 1000), st.integers(1, 64))
def test_pages_hold_the_tokens_and_no_page_is_without(tokens: int, size: int) -> None:
    assert num_pages(tokens, size) * size >= tokens > (num_pages(tokens, size) - 1) * size
