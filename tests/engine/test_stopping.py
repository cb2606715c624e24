"""Text is held back only while a stop string might be beginning, and never given out past one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.stopping import StopStrings


def pushed(stops: tuple[str, ...], *pieces: str) -> list[str]:
    watcher = StopStrings(stops)
    return [*(watcher.push(piece) for piece in pieces), watcher.flush()]


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert pushed((), "a", "b") == ["a", "b", ""]


def test_a_possible_beginning_is_held_back_and_given_out_when_it_is_none() -> None:
    assert pushed(("END",), "the E", "N", "d.") == ["the ", "", "ENd.", ""]


def test_text_ends_before_a_stop_string_that_came_in_pieces() -> None:
    assert pushed(("END",), "the E", "ND and", "more") == ["the ", "", "", ""]


def test_what_is_held_back_at_the_end_is_given_out() -> None:
    assert pushed(("END",), "the EN") == ["the ", "EN"]


def test_the_stop_string_that_is_complete_first_counts() -> None:
    assert pushed(("abcd", "bc"), "xabcd") == ["xa", ""]


def test_of_two_that_end_together_the_longer_counts() -> None:
    assert pushed(("bc", "abc"), "xabc") == ["x", ""]


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.text("abc", max_size=4), max_size=12),
)
def test_the_text_does_not_depend_on_how_it_was_cut(stops: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)

    in_pieces, at_once = (pushed(tuple(stops), *cut) for cut in (pieces, [whole]))

    assert "".join(in_pieces) == "".join(at_once)
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    if ends:
        begin = min(
            whole.find(s) for s in stops if s in whole and whole.find(s) + len(s) == min(ends)
        )
        assert "".join(at_once) == whole[:begin]
    else:
        assert "".join(at_once) == whole


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.text("ab", max_size=12))
def test_no_more_is_held_back_than_might_become_a_stop_string(stops: list[str], text: str) -> None:
    watcher = StopStrings(tuple(stops))

    given_out = "".join(watcher.push(character) for character in text)

    held = text[len(given_out) :]
    assert watcher.matched or not held or any(stop.startswith(held) for stop in stops)
