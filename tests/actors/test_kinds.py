"""Engines that cannot exchange KV: the router never has one send to the other, and says why."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from actors.effects import Effect
from bus.compatibility import Compatibility
from bus.fleet import Role
from bus.messages import Beat, Prepared, PrepRecv, Release, RemoteSend
from bus.transfers import PageLayout

from .test_routing import FLOW, Router, commands

LAYOUT = PageLayout(model="m", dtype="float32", num_kv_heads=3, head_dim=64, version=1)
NEW = Compatibility(LAYOUT, num_layers=30, page_size=16, protocol=2, transport="ucx 1.22.0")
OLD = Compatibility(LAYOUT, num_layers=30, page_size=16, protocol=1, transport="ucx 1.22.0")


def mixed() -> Router:
    """The only prefill engine of the new kind is busy, the only decoder of the old kind too."""
    router = Router()
    for engine in ("p0", "d0"):
        router.core.standing.lost(engine)
    join(router, "p1", "prefill", NEW, 900)
    join(router, "d1", "decode", NEW, 0)
    join(router, "p2", "prefill", OLD, 0)
    join(router, "d2", "decode", OLD, 500)
    return router


def join(router: Router, engine: str, role: Role, kv: Compatibility, waiting_tokens: int) -> None:
    router.hear(
        Beat(engine, 1, "m", role, 0, 9, 9, 16, 999, kv.kind(engine), kv=kv,
             waiting_tokens=waiting_tokens)
    )  # fmt: skip


def leave(router: Router, engine: str) -> list[Effect]:
    return router.hear(Beat(engine, 1, "m", "prefill", 0, 9, 9, 16, 999, "", leaving=True))


def test_a_prompt_is_prefilled_where_its_decoder_can_have_it_from() -> None:
    router = mixed()

    [prepare] = commands(router.ask("disaggregated"))
    assert isinstance(prepare, PrepRecv)
    sent = commands(router.answer(prepare.engine, Prepared(b"grant", 0)))

    [send] = [c for c in sent if isinstance(c, RemoteSend)]
    assert {prepare.engine, send.engine} in ({"p1", "d1"}, {"p2", "d2"})


def test_what_follows_a_loss_stays_with_the_kind_that_has_the_context() -> None:
    router = mixed()
    [prepare] = commands(router.ask("resilient"))
    kind = prepare.engine[1]

    after = commands(leave(router, f"p{kind}"))

    assert {c.engine for c in after if not isinstance(c, Release)} == {f"d{kind}"}
    assert FLOW in router.core.flows


def test_an_engine_that_joins_and_cannot_be_paired_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    join(router, "p1", "prefill", NEW, 0)

    with caplog.at_level(logging.WARNING, "microserve.router"):
        for _ in range(2):
            join(router, "p2", "prefill", OLD, 0)

    assert caplog.messages == [
        "p2 and p1 cannot exchange KV: protocol is 1 at p2 and 2 at p1; they are not paired"
    ]


def test_a_rank_of_several_is_told_at_join_that_it_has_not_all_heads_and_is_never_paired(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What several ranks would have to write into one pool together is not granted."""
    router = Router()
    for engine in ("p0", "d0"):
        router.core.standing.lost(engine)
    ranks = [
        replace(NEW, layout=replace(LAYOUT, tensor_parallel=3, rank=rank)) for rank in range(2)
    ]

    with caplog.at_level(logging.WARNING, "microserve.router"):
        join(router, "d1", "decode", NEW, 0)
        for rank, kv in enumerate(ranks):
            join(router, f"p1{rank}", "prefill", kv, 0)

    assert caplog.messages == [
        "p10 and d1 cannot exchange KV: tensor_parallel is 3 at p10 and 1 at d1;"
        " they are not paired",
        "p11 and d1 cannot exchange KV: tensor_parallel is 3 at p11 and 1 at d1;"
        " rank is 1 at p11 and 0 at d1; they are not paired",
        "p11 and p10 cannot exchange KV: rank is 1 at p11 and 0 at p10; they are not paired",
    ]
    names = {c.engine for c in commands(router.ask("disaggregated"))}
    assert len(names) == 1
