"""Guessing the next tokens changes how many steps an answer takes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.messages import Order, Sampling, StartGenerate
from bus.public import Delta, Spoken
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake import fake_card
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Outcome, Output
from engine.prompt_lookup import PromptLookup
from engine.runner import Ids
from engine.torch_runner import TorchRunner

from .checkpoints import tiny_checkpoint
from .rig import BOX, Rig, deltas, done, small, tokens

PROMPT = list(range(1, 11))
PARROT = Sampling(max_tokens=30, logit_bias=((7, 100.0),))
"""Says nothing but 7, which a guess finds out soon."""


def ids(*tokens: int) -> Ids:
    return np.array(tokens, np.int32)


# --- guesses --------------------------------------------------------------------------------------


def test_what_followed_the_last_time_is_guessed() -> None:
    lookup = PromptLookup(4)

    assert lookup.guess(ids(1, 2, 3, 4, 5, 6, 7, 1, 2, 3), 9).tolist() == [4, 5, 6, 7]
    assert lookup.guess(ids(1, 2, 3, 4, 5, 6, 7, 1, 2, 3), 2).tolist() == [4, 5]


def test_the_latest_and_the_longest_match_count() -> None:
    assert PromptLookup(1).guess(ids(1, 2, 8, 1, 2, 9, 1, 2), 9).tolist() == [9]
    assert PromptLookup(1).guess(ids(5, 1, 2, 8, 6, 1, 2, 9, 5, 1, 2), 9).tolist() == [8]


def test_what_goes_round_is_guessed_to_go_round_again() -> None:
    assert PromptLookup(5).guess(ids(9, 7, 7, 7, 7), 9).tolist() == [7, 7, 7, 7, 7]
    assert PromptLookup(5).guess(ids(1, 2, 3, 1, 2, 3), 9).tolist() == [1, 2, 3, 1, 2]


@pytest.mark.parametrize("tokens", [(1,), (1, 2), (1, 2, 3, 4, 5)])
def test_where_nothing_repeats_nothing_is_guessed(tokens: tuple[int, ...]) -> None:
    assert PromptLookup(4).guess(ids(*tokens), 9).tolist() == []


def test_wrong_guesses_make_the_next_ones_short_and_right_ones_long() -> None:
    lookup, text = PromptLookup(8), ids(*[1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 2, 1, 2)
    lookup.verified(8, 0)

    short = lookup.guess(text, 9)
    lookup.verified(2, 2)

    assert len(short) == 2
    assert len(lookup.guess(text, 9)) == 4


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.lists(st.integers(1, 5)))
def test_a_text_that_grows_is_known_as_well_as_one_that_is_read_at_once(
    text: list[int], sizes: list[int]
) -> None:
    growing, place = PromptLookup(5), 0
    for size in sizes:
        place = min(place + size, len(text))
        growing.guess(ids(*text[:place]), 5)

    assert np.array_equal(growing.guess(ids(*text), 5), PromptLookup(5).guess(ids(*text), 5))


# --- in the engine --------------------------------------------------------------------------------


def asked(sampling: Sampling, prompt: list[int] = PROMPT) -> StartGenerate:
    return StartGenerate("a", Tokens(prompt), 0, sampling, BOX)


def test_right_guesses_save_steps() -> None:
    rig = Rig(config=small(draft_tokens=4))
    rig.order("f", asked(PARROT))

    outcomes = rig.run()

    assert tokens(outcomes, "f") == [7] * 30
    assert rig.statistics.steps < 12
    assert rig.statistics.right_guesses > 18
    assert done(outcomes).usage.completion_tokens == 30
    assert max(len(delta.tokens) for delta in deltas(outcomes)) == 5
    rig.assert_empty()


def test_nothing_is_guessed_unless_it_is_wanted() -> None:
    rig = Rig()
    rig.order("f", asked(PARROT))
    rig.run()

    assert rig.statistics.steps == 30
    assert rig.statistics.guessed_tokens == 0


def test_guesses_take_neither_pages_nor_room_in_the_batch_from_others() -> None:
    rig = Rig(
        card=fake_card(num_pages=11),
        config=small(draft_tokens=8, max_batch_tokens=6, max_running=3),
    )
    for flow in "fgh":
        rig.order(flow, asked(replace(PARROT, max_tokens=20), [1, 2, 3]))

    outcomes = rig.run()

    assert all(tokens(outcomes, flow) == [7] * 20 for flow in "fgh")
    assert rig.statistics.preemptions <= 4


@pytest.mark.parametrize("stop", [5, 6, 7, 8])
def test_an_answer_ends_in_the_middle_of_a_right_guess(stop: int) -> None:
    rig = Rig(config=small(draft_tokens=4))
    rig.order("f", asked(replace(PARROT, max_tokens=stop)))
    rig.order("g", asked(replace(PARROT, stop=("7 " * stop,))))

    outcomes = rig.run()

    assert len(tokens(outcomes, "f")) == stop
    assert len(tokens(outcomes, "g")) == stop
    rig.assert_empty()


# --- on a real network ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))
    torch.set_num_threads(threads)


def heard(
    files: ModelFiles, sampling: Sampling, draft_tokens: int
) -> tuple[dict[int, list[tuple[int, float]]], Engine]:
    """By answer, each token with its log-probability."""
    runner = TorchRunner(files, files.pool_shape(96, 8))
    config = small(draft_tokens=draft_tokens, max_batch_tokens=64)
    engine = Engine(config, runner, files.tokenizer().detokenizer, None, lambda: 0.0)
    engine.handle(Order("f", 1, "r", asked(sampling)), 0.0)
    outcomes: list[Outcome] = []
    while engine.has_work:
        outcomes += engine.step(0.0)
        engine.check_integrity()
    found: dict[int, list[tuple[int, float]]] = {}
    for delta in (m for m in said(outcomes) if isinstance(m, Delta)):
        pairs = [(one.token, one.logprob) for one in delta.logprobs]
        assert [token for token, _ in pairs] == list(delta.tokens)
        found.setdefault(delta.choice, []).extend(pairs)
    return found, engine


def said(outcomes: Iterable[Outcome]) -> list[Spoken]:
    return [outcome.message for outcome in outcomes if isinstance(outcome, Output)]


FEW = tuple((token, 6.0) for token in (20, 21, 22, 23))
"""Makes four tokens likely, so that the same two often stand together."""


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([0.0, 0.7, 1.2]),
    st.integers(0, 2**32),
    st.integers(1, 3),
    st.sampled_from([1.0, 1.1]),
    st.integers(1, 8),
)
def test_tokens_are_the_same_with_and_without_guesses(
    files: ModelFiles, temperature: float, seed: int, n: int, penalty: float, draft_tokens: int
) -> None:
    sampling = Sampling(
        max_tokens=40,
        temperature=temperature,
        seed=seed,
        n=n,
        repetition_penalty=penalty,
        min_tokens=10,
        logit_bias=FEW,
        logprobs=0,
    )

    plain, _ = heard(files, sampling, 0)
    guessed, _ = heard(files, sampling, draft_tokens)

    assert guessed.keys() == plain.keys()
    for choice, pairs in plain.items():
        assert [token for token, _ in guessed[choice]] == [token for token, _ in pairs]
        wanted = pytest.approx([logprob for _, logprob in pairs], abs=1e-3)
        assert [logprob for _, logprob in guessed[choice]] == wanted


def test_drawn_tokens_are_guessed_right_at_times_and_wrong_at_others(files: ModelFiles) -> None:
    """Else the test above would show nothing."""
    sampling = Sampling(max_tokens=200, temperature=1.0, seed=1, logit_bias=FEW, logprobs=0)

    _, engine = heard(files, sampling, 4)

    now = engine.statistics()
    assert 0 < now.right_guesses < now.guessed_tokens
