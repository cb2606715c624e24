"""Whatever happens: everybody is answered, no token is wrong, and nothing is left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from bus.fleet import Role
from orchestrations.registry import names
from tests.system.history import Chances, History

FLEETS: tuple[Mapping[str, Role], ...] = (
    {"x0": "both"},
    {"p0": "prefill", "d0": "decode"},
    {"p0": "prefill", "d0": "decode", "x0": "both"},
    {"p0": "prefill", "p1": "prefill", "d0": "decode", "d1": "decode"},
)
GENERATING = tuple(name for name in names() if name != "migrate_context")
SURVIVING = ("adaptive", "migrate_running", "placed", "resilient")
PEACE = Chances()
LOSSES = Chances(death=0.006, direct=0.02, repeat=0.1, break_off=0.03)
TROUBLE = Chances(
    death=0.004, silence=0.002, leave=0.01, direct=0.02, repeat=0.1, break_off=0.03, hurry=0.2
)


def lived(
    seed: int,
    fleet: Mapping[str, Role],
    chances: Chances,
    num_pages: int = 40,
    served: Sequence[str] = GENERATING,
) -> History:
    history = History(seed, fleet, chances, num_pages, served)
    history.live(1500)
    history.settle()
    history.check()
    return history


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    fleet=st.sampled_from(FLEETS),
    chances=st.sampled_from([PEACE, TROUBLE]),
    num_pages=st.sampled_from([14, 40]),
)
def test_whatever_happens_everybody_is_answered_and_nothing_is_left(
    seed: int, fleet: Mapping[str, Role], chances: Chances, num_pages: int
) -> None:
    lived(seed, fleet, chances, num_pages, names())


def test_where_nothing_goes_wrong_every_answer_is_whole() -> None:
    outcomes = Counter[str]()
    for seed, fleet in enumerate(FLEETS):
        for (_, reason), count in lived(seed, fleet, PEACE).outcomes.items():
            outcomes[reason] += count

    assert set(outcomes) == {"length"}
    assert outcomes.total() > 50


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), fleet=st.sampled_from(FLEETS[1:]))
def test_who_survives_losses_answers_every_request_to_its_end(
    seed: int, fleet: Mapping[str, Role]
) -> None:
    outcomes = lived(seed, fleet, LOSSES, served=SURVIVING).outcomes

    assert {reason for _, reason in outcomes} <= {"length"}
