"""What the router says of engines: exact for its own flows, by heartbeat for everybody else's."""

from __future__ import annotations

from math import exp
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from actors.known_engine import Work
from actors.standing import Standing
from bus.compatibility import Compatibility
from bus.fleet import Engine, Fleet
from bus.messages import Beat, Mailbox, Request, Sampling, Submitted
from bus.tokens import Tokens
from bus.transfers import PageLayout
from orchestrations.adaptive import adaptive
from orchestrations.machine import Generating, Idle, Preparing, Renew

BEAT = Beat("e0", 1, "m", "both", 0, 10, 10, 16, 1024, "same", slots=4)


def standing(*beats: Beat) -> Standing:
    it = Standing()
    for beat in beats or (BEAT,):
        it.heard(beat, 0.0)
    return it


def engine(it: Standing, **more: int) -> Engine:
    return it.fleet("m", {}, **more).engine("e0")


def test_an_engine_is_what_its_beat_says() -> None:
    beat = replace(
        BEAT, role="prefill", load=1, waiting_tokens=7, prefill_tokens_per_s=8.0, decode_step_s=0.5,
        transfer_bytes_per_s=9.0, kv_bytes_per_token=3, group="law", decode_base_s=0.3,
        decode_row_s=0.1,
    )  # fmt: skip

    assert standing(beat).fleet("m", {}).engines == (
        Engine(
            "e0",
            "prefill",
            1,
            10,
            1,
            0,
            7,
            8.0,
            0.5,
            9.0,
            3,
            credits=3,
            group="law",
            decoding=1,
            decode_base_s=0.3,
            decode_row_s=0.1,
        ),
    )
    assert standing(beat).fleet("another", {}).engines == ()


RATES = st.sampled_from([0.0, 5e-324, 1e-9, 1.0, 1e15])


@given(
    st.tuples(RATES, RATES), st.tuples(RATES, RATES), st.tuples(RATES, RATES), st.integers(0, 2**62)
)
def test_a_request_is_placed_whatever_rates_a_beat_may_tell(
    prefills: tuple[float, float],
    rows: tuple[float, float],
    transfers: tuple[float, float],
    waiting_tokens: int,
) -> None:
    beats = [
        replace(
            BEAT,
            engine=f"e{n}",
            prefill_tokens_per_s=prefills[n],
            decode_row_s=rows[n],
            transfer_bytes_per_s=transfers[n],
            kv_bytes_per_token=1000,
            waiting_tokens=waiting_tokens * n,
        )
        for n in range(2)
    ]
    request = Request(Tokens(range(100)), Sampling(), Mailbox("answers"))

    state, commands = adaptive(Idle(), Submitted(request, standing(*beats).fleet("m", {})))

    assert isinstance(state, Preparing | Generating)
    assert {c.engine for c in commands if not isinstance(c, Renew)} <= {"e0", "e1"}


def test_engines_come_in_the_order_of_their_names_each_with_its_model() -> None:
    it = standing(replace(BEAT, engine="e2"), BEAT, replace(BEAT, engine="e1", model="n"))

    assert [e.name for e in it.fleet("m", {}).engines] == ["e0", "e2"]
    assert [e.name for e in it.fleet("n", {}).engines] == ["e1"]


def test_what_was_given_out_since_the_last_beat_counts() -> None:
    it = standing(replace(BEAT, load=1))
    it.claim("f", {"e0": 3})
    it.work("f", {"e0": Work(100, 1)})

    seen = engine(it)

    assert (seen.load, seen.credits, seen.free_pages, seen.waiting_tokens) == (2, 2, 7, 100)


def test_what_a_beat_already_counts_is_not_counted_twice() -> None:
    it = standing()
    it.claim("f", {"e0": 3})
    it.work("f", {"e0": Work(100, 1)})

    it.heard(replace(BEAT, load=1, free_pages=8, waiting_tokens=60), 0.5)

    seen = engine(it)
    assert (seen.load, seen.credits, seen.free_pages, seen.waiting_tokens) == (1, 3, 7, 100)


def test_a_prompt_waits_until_we_hear_that_it_is_computed_whatever_beats_say_meanwhile() -> None:
    it = standing()
    it.work("f", {"e0": Work(100, 1)})
    it.work("g", {"e0": Work(50, 2)})
    assert (engine(it).waiting_tokens, engine(it).decoding) == (150, 3)

    it.heard(replace(BEAT, load=2, waiting_tokens=170), 0.5)
    it.work("f", {"e0": Work(0, 1)})
    assert (engine(it).waiting_tokens, engine(it).decoding) == (70, 5)

    it.work("f", {})
    it.work("g", {})
    assert (engine(it).waiting_tokens, engine(it).decoding) == (20, 2)


def test_the_share_of_time_that_goes_to_prompts_is_that_between_beats() -> None:
    it = standing()
    for beat in range(1, 20):
        it.heard(replace(BEAT, prefill_s=beat * 0.2), beat * 0.5)
    assert engine(it).prefill_share == pytest.approx(0.4, rel=0.02)

    it.heard(replace(BEAT, prefill_s=19 * 0.2), 60.0)
    assert engine(it).prefill_share == pytest.approx(0.0, abs=1e-6)


def test_the_share_is_remembered_for_as_long_as_answers_take() -> None:
    quick, slow = standing(), standing(replace(BEAT, decode_step_s=0.1))

    quick.heard(replace(BEAT, prefill_s=0.5), 0.5)
    slow.heard(replace(BEAT, prefill_s=0.5, decode_step_s=0.1), 0.5)

    assert engine(quick).prefill_share == pytest.approx(1 - exp(-1))
    assert engine(slow).prefill_share == pytest.approx(1 - exp(-0.5 / 12.8))


def test_a_step_that_is_longer_than_beats_take_to_come_is_counted_in_full() -> None:
    slow = replace(BEAT, decode_step_s=0.1)
    it = standing(slow)

    shares = list[float]()
    for beat in range(1, 401):  # a step of 1.6 s after every 2 s
        it.heard(replace(slow, prefill_s=beat // 4 * 1.6), beat * 0.5)
        shares.append(engine(it).prefill_share)

    assert fmean(shares[200:]) == pytest.approx(0.8, rel=0.05)


def test_an_engine_that_began_anew_has_spent_nothing_yet() -> None:
    it = standing(replace(BEAT, prefill_s=100.0))

    it.heard(replace(BEAT, epoch=2, prefill_s=0.1), 0.5)

    assert engine(it).prefill_share == 0.0


def test_what_others_have_there_stays_when_ours_is_over() -> None:
    it = standing()
    it.claim("f", {"e0": 3})
    it.heard(replace(BEAT, load=3, free_pages=5), 0.5)

    it.claim("f", {})

    assert (engine(it).load, engine(it).credits, engine(it).free_pages) == (2, 2, 8)


def test_an_engine_without_pages_for_the_flow_has_no_credit() -> None:
    it = standing()
    it.claim("f", {"e0": 6})

    assert engine(it, num_tokens=64).credits == 3
    assert engine(it, num_tokens=65).credits == 0
    assert it.has_room({"e0": 4})
    assert not it.has_room({"e0": 5})


def test_no_flow_needs_more_pages_than_an_engine_has() -> None:
    assert standing().pages("e0", 17) == 2
    assert standing().pages("e0", 10_000) == 10


def test_an_engine_that_said_it_is_full_has_no_credit_until_its_next_beat() -> None:
    it = standing()

    it.is_full("e0")
    assert engine(it).credits == 0

    it.heard(BEAT, 0.5)
    assert engine(it).credits == 4


def test_cached_pages_become_tokens() -> None:
    it = standing(BEAT, replace(BEAT, engine="e1"))

    fleet = it.fleet("m", {"e1": 3, "gone": 9})

    assert [e.cached for e in fleet.engines] == [0, 48]


def test_an_engine_that_says_no_slots_has_no_end_of_them() -> None:
    assert engine(standing(replace(BEAT, slots=0))).credits > 1000


class AnyOrder(RuleBasedStateMachine):
    """Beats, claims and losses in any order: counts stay those of the flows there are."""

    def __init__(self) -> None:
        super().__init__()
        self.it = Standing()
        self.claims: dict[str, dict[str, int]] = {}

    @rule(name=st.sampled_from("abc"), load=st.integers(0, 6), free=st.integers(0, 10),
          model=st.sampled_from("mn"))  # fmt: skip
    def beat(self, name: str, load: int, free: int, model: str) -> None:
        self.it.heard(replace(BEAT, engine=name, load=load, free_pages=free, model=model), 0.0)

    @rule(name=st.sampled_from("abc"))
    def lost(self, name: str) -> None:
        self.it.lost(name)

    @rule(flow=st.sampled_from("fgh"),
          claims=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5)))  # fmt: skip
    def claim(self, flow: str, claims: dict[str, int]) -> None:
        self.claims[flow] = claims
        self.it.claim(flow, claims)

    @rule(flow=st.sampled_from("fgh"),
          works=st.dictionaries(st.sampled_from("abcd"),
                                st.builds(Work, st.integers(0, 5), st.integers(0, 2))))  # fmt: skip
    def work(self, flow: str, works: dict[str, Work]) -> None:
        self.it.work(flow, works)

    @rule(name=st.sampled_from("abc"))
    def full(self, name: str) -> None:
        self.it.is_full(name)

    @invariant()
    def counts_are_right(self) -> None:
        self.it.check(self.claims)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30)


# --- engines that cannot exchange KV --------------------------------------------------------------

LAYOUT = PageLayout(model="m", dtype="float32", num_kv_heads=3, head_dim=64, version=1)
KV = Compatibility(LAYOUT, num_layers=30, page_size=16, protocol=2, transport="ucx 1.22.0")


def engine_of(name: str, kv: Compatibility, **more: Any) -> Beat:
    return replace(BEAT, engine=name, compatibility=kv.kind(name), kv=kv, **more)


OLD = replace(KV, transport="ucx 1.19.0")
MIXED = (
    engine_of("a0", KV, role="prefill"),
    engine_of("a1", KV, role="decode", waiting_tokens=50),
    engine_of("b0", OLD, role="prefill"),
    engine_of("b1", OLD, role="decode", waiting_tokens=10),
)


def kin(it: Standing, *named: str) -> Fleet:
    return it.kinds("m").kin(it.fleet("m", {}), named, range(100))


def test_engines_that_cannot_exchange_kv_are_never_of_one_fleet() -> None:
    it = standing(*MIXED)

    assert kin(it, "a1").pair(range(100)) == ("a0", "a1")
    assert kin(it, "b0").pair(range(100)) == ("b0", "b1")
    for chosen in ("a0", "a1", "b0", "b1"):
        assert {e.name[0] for e in kin(it, chosen).engines} == {chosen[0]}


def test_without_a_name_the_kind_of_the_engine_that_is_first_is_chosen() -> None:
    it = standing(replace(MIXED[0], waiting_tokens=1000), *MIXED[1:])

    assert [e.name for e in kin(it).engines] == ["b0", "b1"]


def test_all_engines_are_one_fleet_where_they_are_of_one_kind() -> None:
    it = standing(*MIXED)
    it.lost("b0")
    it.lost("b1")

    assert [e.name for e in kin(it).engines] == ["a0", "a1"]


def test_an_engine_that_cannot_be_paired_is_told_of_with_every_field_that_differs() -> None:
    it = standing(*MIXED[:2])
    other = replace(OLD, layout=replace(LAYOUT, dtype="int8"))

    assert it.kinds("m").strangers(engine_of("c0", other)) == [
        "c0 and a1 cannot exchange KV: dtype is 'int8' at c0 and 'float32' at a1;"
        " transport is 'ucx 1.19.0' at c0 and 'ucx 1.22.0' at a1"
    ]
    assert it.kinds("m").strangers(engine_of("a2", KV)) == []
