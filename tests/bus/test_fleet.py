"""Choosing engines by load and role."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

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

    if not engines:
        with pytest.raises(NoEngine):
            fleet.pair()
    elif not distinct:
        least = fleet.least_loaded()
        assert fleet.pair() == (least, least)
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


WARM = Engine("warm", cached=600)
COLD = Engine("cold")
PROMPT = range(640)


def test_what_an_engine_has_cached_counts_for_it() -> None:
    assert Fleet((COLD, WARM)).best_prefix(PROMPT) == "warm"


def test_what_waits_at_an_engine_counts_against_its_cache() -> None:
    busy = [replace(WARM, load=10), replace(WARM, waiting_tokens=601)]

    assert [Fleet((COLD, e)).best_prefix(PROMPT) for e in busy] == ["cold", "cold"]


def test_more_cached_than_the_prompt_has_is_worth_no_more_than_the_prompt() -> None:
    loaded = replace(WARM, load=1)

    assert Fleet((COLD, loaded)).best_prefix(range(65)) == "warm"
    assert Fleet((COLD, loaded)).best_prefix(range(63)) == "cold"


def test_a_faster_engine_may_have_more_to_do() -> None:
    slow = Engine("slow", prefill_tokens_per_s=100.0)
    fast = Engine("fast", prefill_tokens_per_s=500.0, waiting_tokens=1000)

    assert Fleet((slow, fast)).best_prefix(PROMPT) == "fast"
    assert fast.wait_s(500) == 3.0
    assert fast.prefill_s(500) == 1.0


@settings(max_examples=200)
@given(_ENGINES, st.integers(0, 1000))
def test_a_pair_waits_least_of_all_pairs(engines: list[Engine], size: int) -> None:
    engines = [replace(e, cached=(e.load * 321) % 700) for e in engines]
    fleet, by_name = Fleet(tuple(engines)), {e.name: e for e in engines}
    prefill = [e.name for e in engines if e.role != "decode"]
    decode = [e.name for e in engines if e.role != "prefill"]
    distinct = [pair for pair in product(prefill, decode) if pair[0] != pair[1]]

    def wait_s(pair: tuple[str, str]) -> float:
        return sum(by_name[name].wait_s(size) for name in pair)

    if distinct:
        pair = fleet.pair(range(size))
        assert pair in distinct
        assert wait_s(pair) == min(map(wait_s, distinct))


def test_an_engine_without_credit_is_the_last_choice() -> None:
    full = Engine("full", credits=0)

    assert Fleet((full, Engine("free", load=9))).least_loaded() == "free"
    assert Fleet((full, Engine("free", load=9))).best_prefix(PROMPT) == "free"
    assert Fleet((full,)).least_loaded() == "full"


def test_a_group_has_its_engines_and_where_it_has_none_all() -> None:
    law, any_one = Engine("one", group="law"), Engine("two")
    fleet = Fleet((law, any_one))

    assert fleet.group("law") == Fleet((law,))
    assert fleet.group("medicine") == fleet
    assert fleet.group("") == Fleet((any_one,))


def test_an_engine_is_found_by_its_name() -> None:
    assert Fleet((WARM, COLD)).engine("cold") == COLD
    with pytest.raises(NoEngine, match=r"no engine for 'gone'; the fleet has warm \(both\)"):
        Fleet((WARM,)).engine("gone")


def test_a_transfer_takes_no_time_while_nobody_has_measured_it() -> None:
    measured = Engine("x", transfer_bytes_per_s=1000.0, kv_bytes_per_token=10)

    assert measured.transfer_s(50) == 0.5
    assert Engine("x").transfer_s(50) == 0.0
    assert WARM.missing(640) == 40
    assert WARM.missing(10) == 0
