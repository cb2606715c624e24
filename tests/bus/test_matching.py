"""Wildcards, against a definition that goes token by token."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bus.matching import matches

_NAMES = st.sampled_from(["a", "b", "ab"])
_SUBJECTS = st.lists(_NAMES, min_size=1, max_size=4).map(".".join)
_PATTERNS = st.builds(
    lambda tokens, rest: ".".join(tokens + rest),
    st.lists(_NAMES | st.just("*"), min_size=1, max_size=4),
    st.sampled_from([[], [">"]]),
)


@settings(max_examples=100)
@given(_PATTERNS, _SUBJECTS)
def test_a_pattern_matches_token_by_token(pattern: str, subject: str) -> None:
    assert matches(pattern, subject) == _matches(pattern.split("."), subject.split("."))


def _matches(wanted: list[str], given: list[str]) -> bool:
    if not wanted or not given:
        return wanted == given
    if wanted[0] == ">":
        return True
    return wanted[0] in ("*", given[0]) and _matches(wanted[1:], given[1:])


def test_what_means_something_in_a_regular_expression_means_nothing_here() -> None:
    assert matches("a+.$", "a+.$")
    assert not matches("a+", "aa")
