"""A flow that loses its engine is begun again on another one, with what was answered so far."""

from __future__ import annotations

import pytest

from actors.effects import Effect, Send
from bus.events import Followed
from bus.messages import (
    Finished,
    Prepared,
    PrepRecv,
    Refused,
    Sent,
    Started,
    StartGenerate,
    Usage,
)
from bus.tokens import Tokens
from tests.actors.test_routing import FLOW, PROMPT, Router, commands


@pytest.fixture
def router() -> Router:
    return Router()


def resilient_flow(router: Router) -> None:
    """Generating at d0, three tokens heard, another decoder at hand."""
    router.beat("d1", "decode", load=5)
    router.ask("resilient")
    router.answer("d0", Prepared(b"grant", 0))
    router.answer("p0", Sent(10, 0.1, "shm"))
    router.answer("d0", Started(39))
    router.hear((Followed(FLOW, 0, Tokens((7, 8, 9))),))


def orders(effects: list[Effect]) -> list[tuple[str, int, str]]:
    sent = [e.order for e in effects if isinstance(e, Send)]
    return [(o.command.engine, o.attempt, type(o.command).__name__) for o in sent]


def test_a_lost_engine_is_told_with_what_was_answered_and_a_new_attempt_goes_on(
    router: Router,
) -> None:
    resilient_flow(router)

    effects = router.beat("d0", "decode", leaving=True)

    assert orders(effects) == [("d0", 1, "Release"), ("d1", 2, "PrepRecv")]
    [_, prepare] = commands(effects)
    assert isinstance(prepare, PrepRecv)
    assert prepare.prompt == PROMPT + Tokens([7, 8, 9])


def test_several_answers_are_all_made_again_where_an_engine_is_lost(router: Router) -> None:
    router.ask("resilient", n=2)
    router.answer("d0", Prepared(b"grant", 0))
    router.hear((Followed(FLOW, 0, Tokens([7])), Followed(FLOW, 0, Tokens([8, 9]), choice=1)))

    effects = router.beat("d0", "decode", epoch=2)

    [again] = [c for c in commands(effects) if isinstance(c, PrepRecv | StartGenerate)]
    assert again.prompt == PROMPT


def test_what_an_earlier_attempt_is_answered_is_late(router: Router) -> None:
    resilient_flow(router)
    router.beat("d0", "decode", leaving=True)

    effects = router.answer("d0", Finished("stop", Usage()), attempt=1)

    assert effects == []
    assert router.core.statistics().late == 1
    assert router.answer("d1", Prepared(b"grant", 0), attempt=2) != []


def test_an_order_for_an_incarnation_that_is_over_means_that_the_engine_was_lost(
    router: Router,
) -> None:
    router.beat("d1", "decode", load=5)
    router.ask("resilient")

    effects = router.answer("d0", Refused("PrepRecv", "stale_epoch"))

    assert orders(effects)[-1] == ("d1", 2, "PrepRecv")
    assert FLOW in router.core.flows
