"""No text that a user sends can become a subject that was not meant."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus.checks import check_concrete, check_pattern
from bus.interface import BadSubject
from bus.matching import matches
from bus.subjects import BadToken, Subjects, last, token

FEW = settings(max_examples=30)
SUBJECTS = Subjects("ns")
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
ALLOWED = {*string.ascii_letters, *string.digits, *"_-"}
MADE_OF_A_NAME: list[Callable[[str], str]] = [
    SUBJECTS.generate,
    SUBJECTS.commands,
    SUBJECTS.event,
    SUBJECTS.tokens,
    SUBJECTS.beat,
    SUBJECTS.moves,
    SUBJECTS.look,
    SUBJECTS.cancel,
    lambda name: SUBJECTS.command(name, "query"),
    lambda name: SUBJECTS.command("engine", name),
]
HOSTILE = st.text() | st.from_regex(r"[a-z.*> \r\n]{0,80}", fullmatch=True)


@FEW
@given(HOSTILE, st.sampled_from(MADE_OF_A_NAME))
def test_a_text_becomes_exactly_one_token_or_is_refused(
    text: str, make: Callable[[str], str]
) -> None:
    try:
        subject = make(text)
    except BadToken:
        assert len(text) > 64 or not text or set(text) - ALLOWED
    else:
        assert text in subject.split(".")
        assert subject.count(".") == make("a").count(".")
        check_pattern(subject)


@pytest.mark.parametrize("text", ["", "*", ">", "a.b", "a b", "a\n", "\n", "é", "a" * 65, "a\x00"])
def test_wildcards_dots_spaces_and_long_texts_are_refused(text: str) -> None:
    with pytest.raises(BadToken, match="1 to 64 letters"):
        token("model", text)
    with pytest.raises(BadToken):
        Subjects(text)


@FEW
@given(NAMES, NAMES)
def test_each_subject_is_heard_by_the_subscription_meant_for_it(one: str, two: str) -> None:
    heard = [
        (SUBJECTS.every_generate, SUBJECTS.generate(one)),
        (SUBJECTS.commands(one), SUBJECTS.command(one, two)),
        (SUBJECTS.every_beat, SUBJECTS.beat(one)),
        (SUBJECTS.every_cancel, SUBJECTS.cancel(one)),
    ]

    for pattern, subject in heard:
        check_concrete(subject)
        assert matches(pattern, subject)


@FEW
@given(NAMES, NAMES)
def test_no_subject_is_heard_by_another_ones_subscription(one: str, two: str) -> None:
    patterns = [SUBJECTS.every_generate, SUBJECTS.every_beat, SUBJECTS.every_cancel]
    patterns += [SUBJECTS.commands(one), SUBJECTS.event(one), SUBJECTS.tokens(one)]
    subjects = [make(two) for make in MADE_OF_A_NAME] + [SUBJECTS.command(one, two)]

    for subject in subjects:
        assert sum(matches(pattern, subject) for pattern in patterns) <= 1


@FEW
@given(NAMES)
def test_the_last_token_is_what_a_wildcard_stood_for(name: str) -> None:
    assert last(SUBJECTS.generate(name)) == name
    assert last(name) == name


@FEW
@example("".join(map(chr, set(range(0x21, 0x7F)) - set(b"*.>"))))
@given(st.text(st.characters(max_codepoint=0x7F)))
def test_what_can_be_published_to_has_no_wildcard_space_or_empty_token(text: str) -> None:
    try:
        check_concrete(text)
    except BadSubject:
        tokens = text.split(".")
        assert len(text) > 512 or not all(tokens) or not text.isprintable() or set(text) & {*"*> "}
    else:
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("*> ")
        assert all(text.split("."))
        check_pattern(text)


@FEW
@given(NAMES, NAMES)
def test_every_subject_of_names_can_be_published_to(one: str, two: str) -> None:
    check_concrete(f"$SRV.{one}.{two}")


@pytest.mark.parametrize(
    ("subject", "inside"),
    [("ns.engine.e0.Release", True), ("$JS.API.INFO", True), ("_INBOX.x", False), ("nsx.a", False)],
)
def test_what_is_ours_or_the_brokers_is_told_from_what_is_a_users(
    subject: str, inside: bool
) -> None:
    assert SUBJECTS.is_inside(subject) is inside
