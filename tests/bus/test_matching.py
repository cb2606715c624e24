"""Wildcards, against the obvious translation into a regular expression."""

from __future__ import annotations

import re

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
def test_a_pattern_matches_what_its_regular_expression_matches(pattern: str, subject: str) -> None:
    regular = pattern.replace(".", r"\.").replace("*", "[^.]+").replace(">", ".+")

    assert matches(pattern, subject) == bool(re.fullmatch(regular, subject))
