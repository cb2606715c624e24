"""A policy chooses the strategy of each new flow, and one at fault costs nobody a request."""

from __future__ import annotations

from actors.catalog import Deciding
from actors.effects import Withdraw
from actors.inputs import Activated, Asked, Loaded
from actors.routing import RouterConfig, RouterCore
from actors.versions import Activation, Ref
from bus.fleet import Fleet
from bus.messages import Mailbox, Request, Sampling
from bus.tokens import Tokens
from orchestrations.policies import Policy
from orchestrations.registry import strategies
from tests.actors.test_gate import Router


def request() -> Request:
    return Request(Tokens(range(8)), Sampling(), Mailbox("inbox"))


def served_by(policy: Policy) -> str:
    router = Router()
    router.core = RouterCore(RouterConfig("r0", default="mine"), strategies(), {"mine": policy})
    router.beat("p0", "prefill")
    router.beat("d0", "decode")
    router.ask("a", size=400)
    return router.core.flows["a"].serving.ref.name


def test_a_policy_chooses_for_a_request_that_names_nothing() -> None:
    assert served_by(lambda request, fleet: "disaggregated") == "disaggregated"


def test_a_policy_sees_the_request_and_the_fleet() -> None:
    def policy(request: Request, fleet: Fleet) -> str:
        assert len(request.prompt) == 400
        return "disaggregated" if len(fleet.engines) == 2 else "data_parallel"

    assert served_by(policy) == "disaggregated"


def test_a_policy_at_fault_costs_nobody_anything() -> None:
    def fails(request: Request, fleet: Fleet) -> str:
        raise ZeroDivisionError

    def leaves(request: Request, fleet: Fleet) -> str:
        raise SystemExit("planted")

    assert served_by(fails) == "data_parallel"
    assert served_by(leaves) == "data_parallel"
    assert served_by(lambda request, fleet: "magic") == "data_parallel"
    assert served_by(lambda request, fleet: "mine") == "data_parallel"  # itself
    assert served_by(lambda request, fleet: "") == "data_parallel"


def test_a_version_of_a_policy_at_fault_is_withdrawn_and_the_one_before_it_chooses() -> None:
    def fails(request: Request, fleet: Fleet) -> str:
        raise ZeroDivisionError("planted")

    router, good, bad = Router(), Ref("mine", 1), Ref("mine", 2)
    router.core = RouterCore(RouterConfig("r0"), strategies())
    router.beat("x0")
    router.hear(Loaded(Deciding(good, lambda request, fleet: "resilient")))
    router.hear(Loaded(Deciding(bad, fails)))
    router.hear(Activated("mine", Activation(bad, 1.0, good)))
    router.hear(Activated(None, Activation(bad, 1.0, Ref(""))))

    effects = router.hear(Asked("a", "m", request(), "mine"))
    router.ask("b")

    withdrawn = [effect for effect in effects if isinstance(effect, Withdraw)]
    assert withdrawn == [Withdraw(bad, "ZeroDivisionError('planted')")]
    assert router.core.flows["a"].serving.ref == Ref("resilient")
    assert router.core.flows["a"].policy == good
    assert router.core.flows["b"].serving.ref == Ref("disaggregated")
