"""`adaptive` does what data parallel, disaggregation or balance would do, wherever that is best."""

from __future__ import annotations

from msgspec.structs import replace

from bus.fleet import Engine, Fleet
from bus.messages import Mailbox, PrepRecv, Request, Sampling, StartGenerate, Submitted
from bus.tokens import Tokens
from orchestrations.adaptive import adaptive
from orchestrations.machine import Generating, Idle, Preparing

SIZE = 512
P0 = Engine("p0", "prefill", prefill_tokens_per_s=10_000.0, decode_base_s=2e-3, decode_row_s=2e-4)
D0 = replace(P0, name="d0", role="decode")
BUSY = {"load": 8, "decoding": 8}
"""Eight that decode."""


def plan(p0: Engine, d0: Engine, size: int = SIZE, answer: int = 64) -> tuple[str, str, int]:
    """Who prefills (nobody: empty), who decodes, and the split."""
    request = Request(Tokens(range(size)), Sampling(max_tokens=answer), Mailbox("answers"))
    state, [command] = adaptive(Idle(), Submitted(request, Fleet((p0, d0))))
    assert isinstance(state, Generating | Preparing)
    assert isinstance(command, StartGenerate | PrepRecv)
    return state.job.prefill, state.job.decode, state.job.split


def test_on_an_idle_fleet_one_engine_does_it_all() -> None:
    prefill, _, split = plan(P0, D0)

    assert (prefill, split) == ("", 0)


def test_a_long_prompt_is_not_computed_where_many_decode() -> None:
    p0 = replace(P0, load=1, waiting_tokens=SIZE, prefill_share=0.8)

    assert plan(p0, replace(D0, **BUSY)) == ("p0", "d0", SIZE - 1)


def test_nothing_is_decoded_where_prompts_wait_for_others() -> None:
    p0, d0 = replace(P0, load=1, waiting_tokens=100), replace(D0, **BUSY)

    _, decode, _ = plan(p0, d0, size=32, answer=128)

    assert decode == "d0"


def test_a_short_prompt_goes_where_few_decode_prefiller_or_not() -> None:
    assert plan(P0, replace(D0, **BUSY), size=32, answer=128) == ("", "p0", 0)
    assert plan(replace(P0, **BUSY), D0, size=32, answer=128) == ("", "d0", 0)


def test_the_decoder_computes_what_the_prefiller_has_not_when_it_is_free_for_it() -> None:
    p0, d0 = replace(P0, load=1), replace(D0, load=1, decoding=1, waiting_tokens=300)

    assert plan(p0, d0) == ("p0", "d0", 300)


def test_the_decoder_does_it_all_while_the_prefiller_is_drowned() -> None:
    p0 = replace(P0, waiting_tokens=20 * SIZE, load=20, prefill_share=0.95)

    assert plan(p0, replace(D0, load=4, decoding=4)) == ("", "d0", 0)


def test_roles_are_not_needed_to_part_the_work() -> None:
    one = replace(P0, role="both", load=2, waiting_tokens=SIZE, prefill_share=0.6)
    other = replace(D0, role="both", **BUSY)

    assert plan(one, other) == ("p0", "d0", SIZE - 1)
    assert plan(replace(one, name="d0"), replace(other, name="p0")) == ("d0", "p0", SIZE - 1)


def test_an_engine_that_has_nearly_all_is_not_sent_the_rest() -> None:
    d0 = replace(D0, cached=SIZE - 64, load=2, decoding=2)

    assert plan(replace(P0, load=3, decoding=3), d0) == ("", "d0", 0)


def test_what_one_engine_has_cached_is_sent_to_another_that_is_less_busy() -> None:
    d0 = replace(D0, cached=2048 - 64, **BUSY)

    assert plan(P0, d0, size=2048) == ("d0", "p0", 2048 - 64)


def test_a_decoder_that_never_had_a_prompt_is_taken_for_as_fast_as_the_prefiller() -> None:
    p0, d0 = replace(P0, waiting_tokens=20 * SIZE, load=20), replace(D0, prefill_tokens_per_s=0.0)

    assert plan(p0, d0) == ("", "d0", 0)


def test_without_any_measurement_a_request_is_served() -> None:
    prefill, _, _ = plan(Engine("p0", "prefill"), Engine("d0", "decode"))

    assert prefill == ""
