"""The first and the last are always known, at a cost that grows like a logarithm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from engine.rank import Rank
from engine.ranked import Ranked


class Thing(Struct, frozen=True):
    rank: Rank


def thing(priority: int, serial: int) -> Thing:
    return Thing(Rank.of(priority, serial))


def test_the_more_urgent_goes_first_then_the_first_comer_then_the_first_branch() -> None:
    ordered = [Rank.of(1, 9), Rank.of(0, 3), Rank.of(0, 3).branched(1), Rank.of(0, 4)]

    assert sorted(ordered, key=lambda rank: rank[::-1]) != ordered
    assert sorted(ordered, reverse=True)[::-1] == ordered
    assert sorted(rank.turned() for rank in ordered) == [r.turned() for r in ordered[::-1]]
    assert [rank.turned().turned() for rank in ordered] == ordered


@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 1), st.integers(0, 12)), max_size=200))
def test_it_is_always_what_a_sorted_list_would_be(
    moves: list[tuple[bool, int, int]],
) -> None:
    ranked: Ranked[Thing] = Ranked()
    here: list[Thing] = []
    for comes, priority, serial in moves:
        one = next((t for t in here if t.rank == Rank.of(priority, serial)), None)
        one = one or thing(priority, serial)
        (ranked.add if comes else ranked.discard)(one)
        here = [t for t in here if t is not one] + ([one] if comes else [])

        here.sort(key=lambda t: t.rank)
        assert ranked.first is (here[0] if here else None)
        assert ranked.last is (here[-1] if here else None)
        assert len(ranked) == len(here)
        assert sorted(ranked, key=lambda t: t.rank) == here


def test_another_thing_of_the_same_rank_is_not_it() -> None:
    ranked: Ranked[Thing] = Ranked()
    ranked.add(thing(0, 1))

    ranked.discard(thing(0, 1))

    assert thing(0, 1) not in ranked
    assert len(ranked) == 1


class Counting(Rank):
    """A rank that counts how often any is compared."""

    compared = 0

    def __lt__(self, other: tuple[int, ...]) -> bool:
        Counting.compared += 1
        return super().__lt__(other)

    def turned(self) -> Counting:
        return Counting(*super().turned())


def test_ten_thousand_more_cost_a_few_comparisons_more() -> None:
    things = [Thing(Counting.of(n % 3, n)) for n in range(10_000)]
    ranked: Ranked[Thing] = Ranked()
    for one in things:
        ranked.add(one)
    Counting.compared = 0

    for _ in range(1000):
        last = ranked.last
        assert last
        ranked.discard(last)
        ranked.add(last)
        assert ranked.first

    assert 0 < Counting.compared < 1000 * 4 * 14, "14 is the logarithm of 10,000"
