"""Choosing engines by load and role."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.fleet import Engine, Fleet, NoEngine, Role

_ROLES: list[Role] = ["prefill", "decode", "both"]
_ENGINES = st.lists(
    st.builds(
        Engine,
        name=st.sampled_from("abcdef"),
        role=st.sampled_from(_ROLES),
        load=st.integers(0, 3),
    ),
    max_size=5,
    unique_by=lambda engine: engine.name,
)


def _total_load(fleet: Fleet, pair: tuple[str, str]) -> int:
    load = {engine.name: engine.load for engine in fleet.engines}
    return load[pair[0]] + load[pair[1]]


@settings(max_examples=100)
@given(_ENGINES)
def test_a_pair_is_two_engines_with_the_least_load_together_where_there_are_two(
    engines: list[Engine],
) -> None:
    fleet = Fleet(tuple(engines))
    prefill = [e.name for e in engines if e.role != "decode"]
    decode = [e.name for e in engines if e.role != "prefill"]
    distinct = [pair for pair in product(prefill, decode) if pair[0] != pair[1]]

    if not prefill or not decode:
        with pytest.raises(NoEngine):
            fleet.pair()
    elif not distinct:
        assert fleet.pair() == (prefill[0], prefill[0])
    else:
        assert fleet.pair() in distinct
        assert _total_load(fleet, fleet.pair()) == min(_total_load(fleet, p) for p in distinct)


@given(_ENGINES, st.sampled_from(_ROLES))
def test_able_engines_come_least_loaded_first(engines: list[Engine], role: Role) -> None:
    wanted = [e for e in engines if role == "both" or e.role in (role, "both")]

    try:
        able = Fleet(tuple(engines)).able(role)
    except NoEngine:
        assert not wanted
    else:
        assert list(able) == sorted(wanted, key=lambda e: (e.load, e.name))
        assert Fleet(tuple(engines)).least_loaded(role) == able[0].name


@given(_ENGINES, st.permutations(range(5)))
def test_the_order_of_the_fleet_changes_nothing(engines: list[Engine], order: list[int]) -> None:
    shuffled = [engines[i] for i in order if i < len(engines)]

    try:
        pair = Fleet(tuple(engines)).pair()
    except NoEngine:
        return
    assert Fleet(tuple(shuffled)).pair() == pair


def test_nobody_for_a_role_is_an_error_that_says_who_is_there() -> None:
    fleet = Fleet((Engine("one", "prefill"),))

    with pytest.raises(NoEngine, match=r"no engine for 'decode'; the fleet has one \(prefill\)"):
        fleet.least_loaded("decode")
    with pytest.raises(NoEngine, match="no engines"):
        Fleet().least_loaded()


def test_a_lost_engine_is_gone_from_the_fleet() -> None:
    fleet = Fleet((Engine("one"), Engine("two")))

    assert fleet.without("one") == Fleet((Engine("two"),))
    assert fleet.without("three") == fleet
