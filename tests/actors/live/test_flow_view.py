"""One flow as the page shows it, from what its router and the store of traces know."""

from __future__ import annotations

from actors.live.flow_view import MAX_TOKENS, flow_view
from actors.lookout import Looked
from bus.tokens import Tokens
from observability import names
from observability.spans import Span, SpanContext

ROOT = SpanContext("a" * 32, "1" * 16)


def span(name: str, begin_s: float, end_s: float, number: int = 1, **more: object) -> Span:
    context = ROOT if number == 1 else SpanContext("a" * 32, f"{number:016x}")
    parent = None if number == 1 else ROOT
    return Span(context, parent, name, "internal", begin_s, end_s, **more)  # type: ignore[arg-type]


REQUEST = span(names.REQUEST, 10.0, 12.0, attributes={names.VERSION: "s@2"})
STATE = span("Sending", 10.5, 11.5, 2)


def looked(*spans: Span, answer: Tokens = Tokens((65, 66))) -> Looked:  # noqa: B008 - immutable
    return Looked("f", "m", "s@2", "Sending", 1, Tokens((72, 105)), (answer,), ("e0",), spans)


def spell(token: int) -> bytes:
    return bytes((token,))


def test_a_flow_that_goes_on_has_its_waterfall_so_far_and_its_tokens() -> None:
    view = flow_view("f", looked(REQUEST, STATE), (), spell)

    assert view is not None
    assert (view.strategy, view.state, view.goes_on, view.duration_s) == ("s@2", "Sending", True, 2)
    assert [(b.name, b.depth, b.begin_s, b.duration_s) for b in view.bars] == [
        (names.REQUEST, 0, 0.0, 2.0),
        ("Sending", 1, 0.5, 1.0),
    ]
    assert view.prompt is not None
    assert view.prompt.tokens == ((72, "H"), (105, "i"))
    assert view.answers[0].tokens == ((65, "A"), (66, "B"))


def test_what_router_and_store_both_have_is_shown_once() -> None:
    view = flow_view("f", looked(REQUEST, STATE), (REQUEST, span("decode", 11.0, 12.0, 3)), spell)

    assert view is not None
    assert [b.name for b in view.bars] == [names.REQUEST, "Sending", "decode"]


def test_without_leave_to_read_there_are_lengths_and_no_texts() -> None:
    view = flow_view("f", looked(REQUEST), (), None)

    assert view is not None
    assert view.withheld
    assert view.prompt is not None
    assert (view.prompt.num_tokens, view.prompt.tokens) == (2, ())


def test_a_flow_of_the_past_is_shown_from_the_store_alone() -> None:
    over = span(names.REQUEST, 10.0, 12.0, attributes={names.OUTCOME: "finished"})

    view = flow_view("f", None, (over,), spell)

    assert view is not None
    assert (view.state, view.goes_on, view.prompt) == ("finished", False, None)


def test_what_became_of_a_flow_is_found_below_the_span_of_whoever_asked() -> None:
    asked = span("POST /v1/chat/completions", 9.0, 13.0)
    over = span(names.REQUEST, 10.0, 12.0, 4, attributes={names.OUTCOME: "finished"})

    view = flow_view("f", None, (asked, over), spell)

    assert view is not None
    assert (view.state, view.goes_on, view.duration_s) == ("finished", False, 4.0)


def test_a_flow_that_nobody_knows_has_no_view() -> None:
    assert flow_view("f", None, (), spell) is None


def test_a_character_of_several_tokens_stands_with_the_last_of_them() -> None:
    view = flow_view("f", looked(REQUEST, answer=Tokens("é!".encode())), (), spell)

    assert view is not None
    assert [text for _, text in view.answers[0].tokens] == ["", "é", "!"]


def test_of_a_long_answer_the_last_tokens_are_shown() -> None:
    view = flow_view("f", looked(REQUEST, answer=Tokens([65] * (MAX_TOKENS + 5))), (), spell)

    assert view is not None
    assert (view.answers[0].num_tokens, len(view.answers[0].tokens)) == (MAX_TOKENS + 5, MAX_TOKENS)
