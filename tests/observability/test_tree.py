from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from observability.details import details
from observability.shares import shares
from observability.spans import Span, SpanContext
from observability.tree import arrange
from observability.waterfall import bar, render_text

from .scripted import FLOW, at, disaggregated


def span(number: int, parent: int | None, begin_ms: float = 0, end_ms: float = 10) -> Span:
    context = SpanContext(FLOW, f"{number:016x}")
    above = None if parent is None else SpanContext(FLOW, f"{parent:016x}")
    return Span(context, above, f"s{number}", "internal", at(begin_ms), at(end_ms))


def test_children_stand_below_their_parents_by_begin() -> None:
    rows = arrange([span(3, 1, 5), span(4, 2), span(2, 1, 1), span(1, None)])

    assert [(row.branch, row.span.name) for row in rows] == [
        ("", "s1"),
        ("├─ ", "s2"),
        ("│  └─ ", "s4"),
        ("└─ ", "s3"),
    ]


def test_no_spans_make_no_rows() -> None:
    assert arrange([]) == ()


def test_a_span_without_its_parent_stands_below_the_root_and_says_so() -> None:
    request = disaggregated()[-1:]
    rows = arrange([span(1, None), span(2, 99), *request])

    assert [(row.span.name, row.depth, row.orphan) for row in rows][1:] == [
        ("s2", 1, True),
        (request[0].name, 1, True),
    ]
    assert "(parent missing)" in details(rows[1])


def test_a_ring_of_parents_is_cut_open() -> None:
    rows = arrange([span(1, None), span(2, 3), span(3, 2), span(4, 3), span(5, 5)])

    assert sorted(row.span.name for row in rows) == ["s1", "s2", "s3", "s4", "s5"]


def test_a_trace_that_is_only_a_ring_has_a_root() -> None:
    rows = arrange([span(1, 2), span(2, 1)])

    assert [(row.span.name, row.depth) for row in rows] == [("s1", 0), ("s2", 1)]


def test_the_request_is_the_root_even_when_something_began_earlier() -> None:
    request = next(s for s in disaggregated() if s.name == "microserve.request")

    rows = arrange([span(1, None, begin_ms=-50), request])

    assert [row.span.name for row in rows] == ["microserve.request", "s1"]


def test_of_spans_with_one_id_the_last_counts() -> None:
    rows = arrange([span(1, None, 0, 5), span(1, None, 0, 9)])

    assert [row.span.end_s for row in rows] == [at(9)]


def test_a_very_deep_trace_is_no_problem() -> None:
    rows = arrange([span(number, number - 1) for number in range(1, 5000)])

    assert rows[-1].depth == 4998


ids = st.integers(1, 8)
broken = st.lists(
    st.builds(span, ids, st.one_of(st.none(), ids, st.just(99)), ids, st.integers(1, 20)),
    max_size=12,
)


@given(broken)
@settings(max_examples=150)
def test_every_span_of_any_trace_is_shown_once(spans: list[Span]) -> None:
    rows = arrange(spans)

    assert sorted(row.span.context.span_id for row in rows) == sorted(
        {s.context.span_id for s in spans}
    )
    assert [row.depth for row in rows[:1]] == [0] * bool(rows)


@given(broken)
@settings(max_examples=100)
def test_the_shares_of_any_trace_make_a_whole(spans: list[Span]) -> None:
    found = shares(arrange(spans))

    assert not found or abs(sum(share.share for share in found) - 1) < 1e-6


@given(broken)
@settings(max_examples=50)
def test_any_trace_is_drawn(spans: list[Span]) -> None:
    assert all(len(line) <= 80 for line in render_text(spans, 80).splitlines())


@given(st.integers(-30, 30), st.integers(0, 30), st.integers(1, 40))
@settings(max_examples=100)
def test_a_bar_is_never_empty_and_never_outside(begin_ms: int, length: int, width: int) -> None:
    drawn = bar(span(2, 1, begin_ms, begin_ms + length), span(1, None), width)

    assert len(drawn) == width
    assert drawn.strip()
