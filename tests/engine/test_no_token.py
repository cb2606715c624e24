"""A row without a distribution has no token, says why, and concerns nobody else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from math import inf, nan

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import load_file, save_file

from bus.messages import Order, Refused, Sampling, StartGenerate
from bus.public import Done
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Outcome, Output, Told
from engine.runner import Choice, Found, Ids, OnLayer, Row, Sampled
from engine.sampler import NONE_ALLOWED, NOT_NUMBERS, choose
from engine.shortlists import Shortlisting, shortlists
from engine.torch_runner import TorchRunner

from .arithmetics import ARITHMETICS, kernels
from .checkpoints import tiny_checkpoint
from .rig import BOX, Rig, small, tokens
from .test_lora import tiny_adapter

SAMPLINGS = {
    "greedy": Sampling(),
    "greedy with a penalty": Sampling(repetition_penalty=1.2),
    "top-k": Sampling(temperature=0.8, top_k=5, top_p=0.9),
    "top-p": Sampling(temperature=0.8, top_p=0.9),
    "all": Sampling(temperature=0.8),
    "log-probabilities": Sampling(logprobs=2),
}
PROMPT = list(range(1, 19))


@pytest.fixture(params=[shortlists, kernels().shortlists], ids=["numpy", "kernels"])
def looking(request: pytest.FixtureRequest) -> Shortlisting:
    found: Shortlisting = request.param
    return found


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def choice(sampling: Sampling) -> Choice:
    return Choice(sampling, np.array([3, 4], np.int32), 1)


# --- one row of a batch -------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("bad", [nan, inf])
def test_of_a_row_with_a_bad_score_there_is_no_token_and_the_others_have_theirs(
    bad: float, sampling: Sampling, looking: Shortlisting
) -> None:
    logits = torch.randn(5, 600, generator=torch.Generator().manual_seed(1))
    asked = [choice(one) for one in (*list(SAMPLINGS.values())[:4], sampling)]
    whole = choose(logits, asked, looking)

    logits[4, 77] = bad
    found = choose(logits, asked, looking)

    assert all(isinstance(one, Sampled) for one in whole)
    assert found == [*whole[:4], NOT_NUMBERS]


@pytest.mark.parametrize("bad", [nan, -nan, inf])
def test_of_many_greedy_rows_only_the_bad_one_has_no_token(
    bad: float, looking: Shortlisting
) -> None:
    logits = torch.randn(4, 600, generator=torch.Generator().manual_seed(1))
    likeliest = logits.argmax(-1).tolist()
    logits[2, 599] = bad

    found = choose(logits, [choice(Sampling())] * 4, looking)

    assert found == [*map(Sampled, likeliest[:2]), NOT_NUMBERS, Sampled(likeliest[3])]


def test_a_given_token_without_a_distribution_is_not_measured(looking: Shortlisting) -> None:
    asked = replace(choice(Sampling(prompt_logprobs=0)), given=2)

    assert choose(torch.full((1, 8), nan), [asked], looking) == [NOT_NUMBERS]


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_where_nothing_is_allowed_that_is_said(sampling: Sampling, looking: Shortlisting) -> None:
    nothing = replace(choice(sampling), allowed=np.zeros(1, np.uint8))

    assert choose(torch.zeros(1, 8), [nothing], looking) == [NONE_ALLOWED]


def test_scores_of_minus_infinity_only_mean_never(looking: Shortlisting) -> None:
    logits = torch.full((1, 600), -inf)
    logits[0, 5] = 1.0

    for sampling in SAMPLINGS.values():
        [found] = choose(logits, [choice(sampling)], looking)
        assert isinstance(found, Sampled)
        assert found.token == 5


# --- one request of an engine -------------------------------------------------------------------


BAD = 999


def ends_badly(history: Ids) -> bool:
    return bool(history[-1] == BAD)


class Spoiled:
    """Finds nothing after a history ``is_bad``."""

    def __init__(self, runner: FakeRunner, is_bad: Callable[[Ids], bool]) -> None:
        self._runner, self._is_bad = runner, is_bad
        self.card, self.page_memory = runner.card, runner.page_memory
        self.num_spoiled = 0

    def run(self, rows: list[Row], on_layer: OnLayer | None = None) -> Sequence[tuple[Found, ...]]:
        found = self._runner.run(rows, on_layer)
        return [
            tuple(map(self._spoiled, several, row.choices))
            for several, row in zip(found, rows, strict=True)
        ]

    def _spoiled(self, one: Sampled, choice: Choice) -> Found:
        if not self._is_bad(choice.history):
            return one
        self.num_spoiled += 1
        return NOT_NUMBERS


def spoiled_rig(
    draft_tokens: int = 0, is_bad: Callable[[Ids], bool] = ends_badly
) -> tuple[Rig, Spoiled]:
    rig = Rig()
    runner, config = Spoiled(rig.runner, is_bad), small(draft_tokens=draft_tokens)
    rig.engine = Engine(config, runner, FakeDetokenizer, None, lambda: 0.0)
    return rig, runner


def refusals(outcomes: list[Outcome]) -> dict[str, Refused]:
    told = [o for o in outcomes if isinstance(o, Told)]
    return {one.flow: one.event for one in told if isinstance(one.event, Refused)}


def test_the_request_fails_alone_and_in_words(caplog: pytest.LogCaptureFixture) -> None:
    rig, _ = spoiled_rig()
    rig.start("good", PROMPT)
    rig.start("bad", [5, *PROMPT, BAD])

    outcomes = rig.run()

    message = f"the engine failed: {NOT_NUMBERS.why}"
    assert refusals(outcomes) == {"bad": Refused("StartGenerate", "internal", message)}
    assert Output("bad", 1, BOX, Done("bad", 0, "error", message=message)) in outcomes
    assert tokens(outcomes, "good") == rig.runner.continuation(PROMPT, 8)
    assert rig.statistics.failed_steps == 0
    assert NOT_NUMBERS.why in caplog.text
    assert "Traceback" not in caplog.text
    rig.assert_empty()


@pytest.mark.usefixtures("quiet")
def test_who_asks_again_finds_none_of_its_pages() -> None:
    """The prompt takes three steps; what the first two computed could be found meanwhile."""
    rig, runner = spoiled_rig()
    rig.start("bad", [*range(1, 40), BAD])

    rig.run()

    assert runner.num_spoiled == 1
    assert rig.statistics.cached_pages == 0
    rig.assert_empty()


@pytest.mark.usefixtures("quiet")
def test_pages_that_others_have_stay_and_so_does_what_others_computed_first() -> None:
    rig, _ = spoiled_rig()
    rig.start("good", PROMPT, max_tokens=30)
    rig.step()
    rig.start("bad", [*PROMPT[:8], *range(50, 60), BAD])

    outcomes = rig.run()

    assert set(refusals(outcomes)) == {"bad"}
    rig.start("again", PROMPT, max_tokens=30)
    assert tokens(rig.run(), "again") == rig.runner.continuation(PROMPT, 30)
    assert rig.statistics.matched_tokens == 8 + 16
    rig.assert_empty()


@pytest.mark.usefixtures("quiet")
def test_where_only_a_wrong_guess_leads_there_the_answer_goes_on() -> None:
    """It says nothing but 7, and guesses that after two of them comes what came the last time."""
    rig, runner = spoiled_rig(draft_tokens=4)
    parrot = Sampling(max_tokens=9, logit_bias=((7, 100.0),))
    rig.order("f", StartGenerate("a", Tokens([7, 7, BAD, 1, 2]), 0, parrot, BOX))

    outcomes = rig.run()

    assert runner.num_spoiled > 0
    assert tokens(outcomes, "f") == [7] * 9
    rig.assert_empty()


@pytest.mark.usefixtures("quiet")
def test_where_right_guesses_lead_there_the_request_fails_in_the_next_step_and_alone() -> None:
    """It says nothing but 7, guesses so, and ends after the third."""
    rig, runner = spoiled_rig(4, lambda history: history[0] == 7 and len(history) == 7)
    parrot = Sampling(max_tokens=9, logit_bias=((7, 100.0),))
    rig.order("bad", StartGenerate("a", Tokens([7, 7, 7, 7]), 0, parrot, BOX))
    rig.start("good", PROMPT, max_tokens=12)

    outcomes = rig.run()

    assert runner.num_spoiled == 2  # behind guesses, and then behind what is known
    assert set(refusals(outcomes)) == {"bad"}
    assert tokens(outcomes, "bad") == [7, 7, 7]
    assert tokens(outcomes, "good") == rig.runner.continuation(PROMPT, 12)
    assert rig.statistics.failed_steps == 0
    rig.assert_empty()


# --- a real model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    """With an adapter that has lost a number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("broken")
    adapter = tiny_adapter(root / "broken", seed=1) / "adapter_model.safetensors"
    weights = load_file(adapter)
    next(iter(weights.values()))[0, 0] = nan
    save_file({name: tensor.clone() for name, tensor in weights.items()}, adapter)
    folder = tiny_checkpoint(root / "model")
    yield open_model(str(folder), adapters={"broken": root / "broken"})
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_an_answer_without_numbers_changes_no_other(
    arithmetic: str, sampling: Sampling, files: ModelFiles
) -> None:
    alone, beside = (
        answers(files, arithmetic, sampling, [*names]) for names in (("one",), ("one", "broken"))
    )

    assert alone["one"] == beside["one"]
    assert len(alone["one"]) == 6
    assert beside["broken"] == []


def answers(
    files: ModelFiles, arithmetic: str, sampling: Sampling, flows: list[str]
) -> dict[str, list[int]]:
    """Of flows that are called as their adapters, where these are there; all end in order."""
    runner = TorchRunner(files, files.pool_shape(64, 16), arithmetic=ARITHMETICS[arithmetic]())
    engine = Engine(small(), runner, files.tokenizer().detokenizer, None, lambda: 0.0)
    outcomes: list[Outcome] = []
    asked = replace(sampling, max_tokens=6, ignore_eos=True, seed=5)
    for flow in flows:
        adapter = flow if flow in files.adapters else ""
        command = StartGenerate("e", Tokens(PROMPT), 0, asked, BOX)
        outcomes += engine.handle(Order(flow, 1, "r", command, adapter=adapter), 0.0)
    while engine.has_work:
        outcomes += engine.step(0.0)
    engine.check_integrity()
    assert set(refusals(outcomes)) == {*flows} & {*files.adapters}
    return {flow: tokens(outcomes, flow) for flow in flows}
