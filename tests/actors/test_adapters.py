"""Requests for a LoRA adapter go to engines that have it, and nowhere else."""

from __future__ import annotations

import pytest

from actors.effects import Effect, Publish, Send
from actors.routing import Asked, RouterConfig, RouterCore, Wished
from bus.codec import decode_public
from bus.messages import (
    Beat,
    CacheChanged,
    Mailbox,
    Order,
    Request,
    Sampling,
    StartGenerate,
)
from bus.prefixes import chain, pack
from bus.public import Rejected, Reply
from bus.tokens import Tokens
from orchestrations.registry import strategies

PROMPT = Tokens(range(40))
PAGE = 16
FLOW = "f" * 32


class Router:
    """Four engines: two have adapters, and those without are less busy."""

    def __init__(self) -> None:
        self.core = RouterCore(RouterConfig("r0", default="data_parallel"), strategies())
        self.beat("e0")
        self.beat("e1")
        self.beat("legal", 3, "legal")
        self.beat("rich", 4, "legal", "medical")

    def beat(self, name: str, load: int = 0, *adapters: str, leaving: bool = False) -> list[Effect]:
        pages = 99
        beat = Beat(
            name, 1, "m", "both", load, pages, pages, PAGE, 999, "c", leaving, adapters=adapters
        )
        return self.core.handle(beat, 100.0)

    def ask(self, adapter: str, orchestration: str | None = None) -> list[Effect]:
        request = Request(PROMPT, Sampling(), Mailbox("inbox"), adapter=adapter)
        return self.core.handle(Asked(FLOW, "m", request, orchestration, tag="t"), 100.0)


@pytest.fixture
def router() -> Router:
    return Router()


def orders(effects: list[Effect]) -> list[Order]:
    return [e.order for e in effects if isinstance(e, Send)]


def said(effects: list[Effect]) -> list[Reply]:
    return [decode_public(e.payload, Reply) for e in effects if isinstance(e, Publish)]


@pytest.mark.parametrize(
    ("adapter", "engine"), [("", "e0"), ("legal", "legal"), ("medical", "rich")]
)
def test_a_request_goes_to_the_least_busy_engine_that_has_its_adapter(
    router: Router, adapter: str, engine: str
) -> None:
    [order] = orders(router.ask(adapter))

    assert order.command.engine == engine
    assert order.adapter == adapter
    assert isinstance(order.command, StartGenerate)


def test_an_adapter_that_no_engine_has_is_refused_with_those_there_are(router: Router) -> None:
    effects = router.ask("poetry")

    [rejected] = said(effects)
    assert rejected == Rejected(
        "bad_request", "no engine has the adapter 'poetry'; there are: legal, medical", "t"
    )
    assert not orders(effects)
    assert router.core.flows == {}


def test_when_the_last_engine_with_it_has_left_it_is_gone(router: Router) -> None:
    router.beat("rich", leaving=True)

    [rejected] = said(router.ask("medical"))

    assert isinstance(rejected, Rejected)
    assert "'medical'; there are: legal" in rejected.message


def test_a_fleet_without_engines_is_told_as_such() -> None:
    router = Router()
    for name in ("e0", "e1", "legal", "rich"):
        router.beat(name, leaving=True)

    [rejected] = said(router.ask("legal"))

    assert isinstance(rejected, Rejected)
    assert rejected.reason == "no_engine"


def test_a_flow_is_moved_to_engines_with_its_adapter_only(router: Router) -> None:
    router.ask("legal", "migrate_running")
    flow = router.core.flows[FLOW]

    assert router.core.engines_of(flow) == ["legal", "rich"]
    assert router.core.handle(Wished(FLOW, "e0"), 100.0) == []


def test_when_its_engine_is_lost_it_goes_on_at_another_that_has_its_adapter(
    router: Router,
) -> None:
    router.ask("legal", "resilient")

    again = orders(router.beat("legal", leaving=True))

    generating = [o.command.engine for o in again if isinstance(o.command, StartGenerate)]
    assert generating == ["rich"]


def test_a_cached_prompt_counts_for_the_adapter_that_it_was_computed_with(router: Router) -> None:
    router.beat("idle", 0, "legal")
    hashes = chain(PROMPT, PAGE, "legal")
    router.core.handle(CacheChanged("rich", 1, 1, pack(hashes)), 100.0)
    router.core.handle(CacheChanged("e1", 1, 1, pack(hashes)), 100.0)

    router.ask("legal")

    assert router.core.flows[FLOW].cached == {"rich": 2 * PAGE, "e1": 2 * PAGE}
