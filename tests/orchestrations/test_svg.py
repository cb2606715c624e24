"""A picture that any browser reads, in which nothing lies on top of anything else."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrations.arrows import Arrow, Drawing, drawing
from orchestrations.disaggregated import disaggregated
from orchestrations.resilient import resilient
from orchestrations.svg import CHARS, place, svg, words

from .finding import PAIR

NAMES = ("Idle", "Preparing", "Sending", "Generating", "Done")
SVG = "{http://www.w3.org/2000/svg}"
arrows = st.builds(
    Arrow,
    before=st.sampled_from(NAMES),
    after=st.sampled_from(NAMES),
    events=st.lists(st.sampled_from(("Sent", "Refused", "EngineLost")), min_size=1).map(tuple),
    commands=st.lists(st.sampled_from(("Release", "StartGenerate")), max_size=3).map(tuple),
)
drawings = st.lists(arrows, max_size=15).map(lambda a: Drawing(NAMES, tuple(a)))


@settings(max_examples=40)
@given(drawings)
def test_every_arrow_has_its_place(found: Drawing) -> None:
    placed = place(found)

    for one in placed:
        for arrow in one.arrows:
            assert (NAMES[one.begin], NAMES[one.end]) == (arrow.before, arrow.after)
    everything = [arrow for one in placed for arrow in one.arrows]
    assert sorted(everything, key=str) == sorted(found.arrows, key=str)


@settings(max_examples=40)
@given(drawings)
def test_no_two_arrows_of_a_column_run_through_the_same_gap(found: Drawing) -> None:
    for one, other in combinations(place(found), 2):
        if one.column == other.column:
            assert set(one.gaps).isdisjoint(other.gaps)


@settings(max_examples=40)
@given(drawings)
def test_a_label_stands_in_a_gap_that_its_arrow_runs_through(found: Drawing) -> None:
    for one in place(found):
        assert one.gap in one.gaps


@given(arrows)
def test_a_label_says_what_comes_and_then_what_is_sent(arrow: Arrow) -> None:
    lines = words([arrow])

    assert " ".join(text for text, sent in lines if not sent) == ", ".join(arrow.events)
    sent = " ".join(text for text, is_sent in lines if is_sent)
    assert sent == (f"/ {', '.join(arrow.commands)}" if arrow.commands else "")
    assert all(len(text) <= CHARS for text, _ in lines)


def test_the_picture_is_xml_with_a_bar_for_each_state_and_a_line_for_each_way() -> None:
    picture = ElementTree.fromstring(svg(disaggregated, (PAIR,)))

    found = drawing(disaggregated, (PAIR,))
    names = [e.text for e in picture.iter(f"{SVG}text") if e.get("class") == "state"]
    lines = [e for e in picture.iter(f"{SVG}path") if e.get("marker-end")]
    assert names == list(found.states)
    assert len(list(picture.iter(f"{SVG}rect"))) == len(found.states)
    assert len(lines) == len({(a.before, a.after) for a in found.arrows})


def test_everything_is_within_the_picture() -> None:
    picture = ElementTree.fromstring(svg(resilient, (PAIR,)))

    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for rect in picture.iter(f"{SVG}rect"):
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width
        assert float(rect.attrib["y"]) + float(rect.attrib["height"]) <= height
    for text in picture.iter(f"{SVG}text"):
        assert 0 < float(text.attrib["y"]) < height


def test_the_same_strategy_has_the_same_picture_to_the_byte() -> None:
    assert svg(disaggregated, (PAIR,)) == svg(disaggregated, (PAIR,))
