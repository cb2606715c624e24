"""A fleet that knows the order of its engines chooses as one that looks at all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.codec import decode, encode
from bus.fleet import Engine, Fleet, NoEngine, Role
from bus.ranking import Ranking

ROLES: Final[tuple[Role, ...]] = ("prefill", "decode", "both")
GROUPS = ("", "law")
NAMES = "abcdefgh"

engines = st.builds(
    Engine,
    name=st.sampled_from(NAMES),
    role=st.sampled_from(ROLES),
    load=st.integers(0, 3),
    waiting_tokens=st.sampled_from((0, 7, 64, 640)),
    prefill_tokens_per_s=st.sampled_from((0.0, 300.0, 333.3, 1000.0, 5000.0)),
    credits=st.integers(0, 2),
    group=st.sampled_from(GROUPS),
)
changes = st.lists(engines | st.sampled_from(NAMES), max_size=24)
"""An engine that comes or is otherwise now; a name: this one goes, if it is there."""


def ranking_of(told: list[Engine | str]) -> tuple[Ranking, dict[str, Engine]]:
    ranking, there = Ranking(), dict[str, Engine]()
    for change in told:
        if isinstance(change, Engine):
            ranking.put(change)
            there[change.name] = change
        elif there.pop(change, None):
            ranking.drop(change)
    return ranking, there


def outcome(ask: Callable[[], Any]) -> Any:
    """What it gives, or in which words it gives up."""
    try:
        return ask()
    except NoEngine as error:
        return str(error)


def assert_alike(ranked: Fleet, plain: Fleet, num_tokens: int) -> None:
    prompt = range(num_tokens)
    assert ranked == plain
    role: Role
    for role in ROLES:
        for ask in (Fleet.least_loaded, Fleet.able):
            assert outcome(lambda: ask(ranked, role)) == outcome(lambda: ask(plain, role))  # noqa: B023
        best = outcome(lambda: ranked.best_prefix(prompt, role))  # noqa: B023
        assert best == outcome(lambda: plain.best_prefix(prompt, role))  # noqa: B023
    assert outcome(lambda: ranked.pair(prompt)) == outcome(lambda: plain.pair(prompt))
    for name in NAMES:
        assert outcome(lambda: ranked.engine(name)) == outcome(lambda: plain.engine(name))  # noqa: B023
    assert ranked.most_cached == plain.most_cached
    assert (ranked.is_measured, ranked.has_groups) == (plain.is_measured, plain.has_groups)


@settings(max_examples=50)
@given(changes, st.dictionaries(st.sampled_from(NAMES), st.integers(0, 700)), st.integers(0, 700))
def test_whoever_is_chosen_is_chosen_by_looking_at_all_of_them_too(
    told: list[Engine | str], cached: dict[str, int], num_tokens: int
) -> None:
    ranking, there = ranking_of(told)
    changed = {n: replace(there[n], cached=c) for n, c in cached.items() if n in there}

    ranked = Fleet.ranked(ranking.ranked().for_flow(changed))

    plain = Fleet(tuple({**there, **changed}[name] for name in sorted(there)))
    assert_alike(ranked, plain, num_tokens)
    for group in GROUPS:
        assert_alike(ranked.group(group), plain.group(group), num_tokens)
        left, rest = ranked.group(group).without("a"), plain.group(group).without("a")
        assert_alike(left, rest, num_tokens)
    assert_alike(ranked.without("b").without("a"), plain.without("a").without("b"), num_tokens)


@given(changes)
def test_the_fastest_is_who_has_measured_the_most(told: list[Engine | str]) -> None:
    ranking, there = ranking_of(told)

    assert ranking.fastest == max((e.prefill_tokens_per_s for e in there.values()), default=0.0)


def test_what_was_given_out_stays_as_it_was() -> None:
    ranking, _ = ranking_of([Engine("a", load=1), Engine("b", load=2)])
    before = Fleet.ranked(ranking.ranked())

    ranking.put(Engine("a", load=3))
    ranking.drop("b")

    assert before.least_loaded() == "a"
    assert before.engine("b").load == 2
    assert Fleet.ranked(ranking.ranked()).engines == (Engine("a", load=3),)


def test_the_order_is_no_part_of_the_value_and_does_not_travel() -> None:
    ranking, there = ranking_of([Engine("a", load=1), Engine("b")])
    ranked = Fleet.ranked(ranking.ranked())

    assert ranked == Fleet(tuple(there.values()))
    assert encode(ranked) == encode(Fleet(tuple(there.values())))
    assert decode(encode(ranked), Fleet).best_prefix(()) == ranked.best_prefix(()) == "b"


def test_a_thousand_engines_are_not_looked_at_one_by_one() -> None:
    """The order is gone along, and no further than anybody could still be better."""
    ranking, _ = ranking_of([Engine(f"e{n:03}", load=n % 90 + 1) for n in range(1000)])
    order = ranking.ranked()
    [cell] = order.cells
    seen: list[str] = []

    class Waits(tuple[Any, ...]):
        def __iter__(self) -> Any:
            for place in super().__iter__():
                seen.append(place.name)
                yield place

    watched = cell._replace(waits=Waits(cell.waits))

    assert replace(order, cells=(watched,)).first_two("both", 500)[0].name == "e000"
    assert len(seen) < 20
