"""Which version serves whom, and how that changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.catalog import Catalog, Deciding, Installed, Serving
from actors.versions import (
    Activation,
    BadActivation,
    Ref,
    activated,
    choose,
    fraction,
    rolled_back,
    slot_key,
    slot_of,
    without,
)
from bus.fleet import Fleet
from bus.messages import Request
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated

INSTALLED = Ref("mine")
ONE, TWO, THREE = Ref("mine", 1), Ref("mine", 2), Ref("mine", 3)
FLOWS = [f"{n:032x}" for n in range(2000)]


# --- shares -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_the_flows_gets_the_candidate(share: float) -> None:
    activation = Activation(TWO, share, ONE)

    given_two = sum(choose(activation, flow) == TWO for flow in FLOWS)

    assert given_two / len(FLOWS) == pytest.approx(share, abs=0.04)


@given(st.text(max_size=40), st.floats(0.01, 1), st.floats(0.01, 1))
def test_who_has_the_candidate_keeps_it_when_the_share_grows(
    flow: str, one: float, two: float
) -> None:
    small, large = sorted((one, two))

    if choose(Activation(TWO, small, ONE), flow) == TWO:
        assert choose(Activation(TWO, large, ONE), flow) == TWO
    assert 0 <= fraction(flow) < 1


def test_all_means_all() -> None:
    assert {choose(Activation(TWO, 1.0, ONE), flow) for flow in FLOWS} == {TWO}


# --- changes ------------------------------------------------------------------------------------


def test_a_first_activation_leaves_the_rest_to_what_is_installed() -> None:
    now = activated(None, ONE, 0.1, INSTALLED)

    assert (now.candidate, now.share, now.base) == (ONE, 0.1, INSTALLED)


def test_a_new_trial_takes_the_place_of_the_one_before() -> None:
    trial = activated(activated(None, ONE, 1.0, INSTALLED), TWO, 0.1, INSTALLED)

    now = activated(trial, THREE, 0.2, INSTALLED)

    assert (now.candidate, now.share, now.base) == (THREE, 0.2, ONE)


def test_a_trial_that_is_extended_keeps_its_base() -> None:
    trial = activated(activated(None, ONE, 1.0, INSTALLED), TWO, 0.1, INSTALLED)

    assert activated(trial, TWO, 1.0, INSTALLED).base == ONE


def test_what_serves_all_and_is_put_on_trial_again_is_not_its_own_base() -> None:
    now = activated(activated(None, ONE, 1.0, INSTALLED), ONE, 0.5, INSTALLED)

    assert now.base == INSTALLED


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(BadActivation, match="more than 0 %, up to 100 %"):
        activated(None, ONE, share, INSTALLED)


def test_rolling_back_goes_back_one_at_a_time_to_what_is_installed() -> None:
    history: list[Activation] = []
    for ref in (ONE, TWO, THREE):
        history.append(activated(history[-1] if history else None, ref, 1.0, INSTALLED))

    seen = []
    for _ in range(3):
        history.append(rolled_back(history, INSTALLED))
        seen.append(history[-1].candidate)

    assert seen == [TWO, ONE, INSTALLED]
    with pytest.raises(BadActivation, match="nothing to roll back"):
        rolled_back(history, INSTALLED)
    with pytest.raises(BadActivation):
        rolled_back([], INSTALLED)


def test_a_withdrawn_candidate_leaves_all_to_its_base() -> None:
    now = without(Activation(TWO, 0.1, ONE), TWO, INSTALLED, "it raised")

    assert now is not None
    assert (now.candidate, now.share, now.base, now.withdrawn) == (ONE, 1.0, INSTALLED, TWO)
    assert now.reason == "mine@2 was withdrawn: it raised"


def test_a_withdrawn_base_leaves_its_part_to_what_is_installed() -> None:
    now = without(Activation(TWO, 0.1, ONE), ONE, INSTALLED, "it raised")

    assert now is not None
    assert (now.candidate, now.share, now.base) == (TWO, 0.1, INSTALLED)


def test_a_version_that_has_no_part_changes_nothing() -> None:
    assert without(Activation(TWO, 0.1, ONE), THREE, INSTALLED, "it raised") is None


@pytest.mark.parametrize("slot", [None, "mine", "default"])
def test_every_slot_has_its_own_key(slot: str | None) -> None:
    assert slot_of(slot_key(slot)) == slot


# --- the catalog --------------------------------------------------------------------------------


def chooses_mine(request: Request, fleet: Fleet) -> str:
    return "mine"


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(Installed({"mine": data_parallel}, {"chooser": chooses_mine}, "mine"))


def serving(catalog: Catalog, slot: str | None = "mine") -> Ref | None:
    found = catalog.serving(slot, FLOWS[0])
    return found.ref if found else None


def test_what_is_installed_serves_until_something_else_does(catalog: Catalog) -> None:
    assert serving(catalog) == INSTALLED
    assert serving(catalog, None) == INSTALLED
    assert serving(catalog, "unknown") is None

    catalog.load(Serving(ONE, disaggregated))
    assert serving(catalog) == INSTALLED

    catalog.activate("mine", Activation(ONE, 1.0, INSTALLED))
    assert serving(catalog) == ONE
    assert serving(catalog, None) == ONE

    catalog.activate("mine", None)
    assert serving(catalog) == INSTALLED


def test_the_default_may_be_another_strategy_than_the_one_at_the_start(catalog: Catalog) -> None:
    other = Ref("other", 1)
    catalog.load(Serving(other, disaggregated))

    catalog.activate(None, Activation(other, 1.0, INSTALLED))

    assert serving(catalog, None) == other
    assert serving(catalog, "mine") == INSTALLED


def test_a_new_strategy_is_known_once_it_is_activated(catalog: Catalog) -> None:
    other = Ref("other", 1)
    catalog.load(Serving(other, disaggregated))
    assert serving(catalog, "other") is None

    catalog.activate("other", Activation(other, 1.0, Ref("other")))

    assert catalog.names() == ("chooser", "mine", "other")
    assert catalog.strategies() == ("mine", "other")
    assert serving(catalog, "other") == other


def test_a_version_that_is_not_here_yet_is_served_by_its_base(catalog: Catalog) -> None:
    catalog.load(Serving(ONE, disaggregated))

    catalog.activate("mine", Activation(TWO, 1.0, ONE))

    assert serving(catalog) == ONE


def test_a_withdrawn_version_serves_nobody_whatever_the_activation_says(catalog: Catalog) -> None:
    catalog.load(Serving(ONE, disaggregated))
    catalog.activate("mine", Activation(ONE, 1.0, INSTALLED))

    catalog.withdraw(ONE)

    assert serving(catalog) == INSTALLED


def test_a_policy_serves_like_a_strategy_and_by_versions(catalog: Catalog) -> None:
    assert isinstance(catalog.serving("chooser", FLOWS[0]), Deciding)
    version = Ref("chooser", 1)
    catalog.load(Deciding(version, chooses_mine))

    catalog.activate("chooser", Activation(version, 1.0, Ref("chooser")))
    catalog.activate(None, Activation(version, 1.0, Ref("")))

    assert serving(catalog, "chooser") == version
    assert serving(catalog, None) == version


def test_a_trial_of_a_name_that_nothing_else_serves_is_for_all_who_ask_for_it(
    catalog: Catalog,
) -> None:
    other = Ref("other", 1)
    catalog.load(Serving(other, disaggregated))

    catalog.activate("other", Activation(other, 0.1, Ref("other")))

    assert {f.ref for flow in FLOWS if (f := catalog.serving("other", flow))} == {other}


def test_a_name_that_nothing_serves_any_more_is_not_offered(catalog: Catalog) -> None:
    catalog.load(Serving(Ref("other", 1), disaggregated))

    catalog.activate("other", Activation(Ref("other"), 1.0, Ref("other")))

    assert catalog.names() == ("chooser", "mine")
    assert serving(catalog, "other") is None
