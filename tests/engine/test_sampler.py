"""Penalties, filters and draws against slow plain Python, and the promises about batches."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.messages import Sampling
from engine.logit_filters import Logits, limited, penalised
from engine.philox import uniform
from engine.runner import Choice, Sampled
from engine.sampler import choose
from engine.survivors import LIKELY_NUCLEI, survivors

VOCAB = 12
CLOSE = 1e-6

logits_of = st.lists(
    st.integers(-8000, 8000).map(lambda thousandths: thousandths / 1000),
    min_size=VOCAB,
    max_size=VOCAB,
)
"""On a grid: two are equal, or so far apart that rounding cannot swap them."""
some_tokens = st.lists(st.integers(0, VOCAB - 1), max_size=10)


def choice(sampling: Sampling, history: list[int] | None = None, num_prompt: int = 0) -> Choice:
    return Choice(sampling, np.array(history or [], np.int32), num_prompt)


def chosen(logits: torch.Tensor, choices: list[Choice]) -> list[Sampled]:
    """Of rows that all have a token."""
    found = [one for one in choose(logits, choices) if isinstance(one, Sampled)]
    assert len(found) == len(choices)
    return found


def probabilities(logits: list[float]) -> list[float]:
    highest = max(logits)
    weights = [math.exp(logit - highest) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def kept(logits: list[float], **filters: float) -> set[int]:
    """Who is left after these filters, at a temperature of 1."""
    found = survivors(np.array(logits, np.float32), Sampling(temperature=1.0, **filters))  # type: ignore[arg-type]
    return set(range(len(logits)) if found.tokens is None else found.tokens.tolist())


def doubles(logits: list[float]) -> Logits:
    return np.array(logits, np.float64)


# --- penalties and filters ----------------------------------------------------------------------


@given(
    logits_of,
    some_tokens,
    some_tokens,
    st.floats(0.5, 2.0),
    st.floats(-2.0, 2.0),
    st.floats(-2.0, 2.0),
)
def test_penalties_equal_their_definitions(
    logits: list[float],
    prompt: list[int],
    answer: list[int],
    repetition: float,
    presence: float,
    frequency: float,
) -> None:
    sampling = Sampling(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency
    )

    given = penalised(doubles(logits), choice(sampling, prompt + answer, len(prompt)))

    wanted = []
    for token, logit in enumerate(logits):
        if token in prompt + answer:
            logit = logit / repetition if logit > 0 else logit * repetition
        count = answer.count(token)
        wanted.append(logit - presence * (count > 0) - frequency * count)
    assert given.tolist() == pytest.approx(wanted)


@given(logits_of, st.floats(0.01, 1.0))
def test_min_p_keeps_what_is_likely_enough(logits: list[float], share: float) -> None:
    likely = probabilities(logits)
    threshold = share * max(likely)
    assume(all(abs(p - threshold) > CLOSE or p == max(likely) for p in likely))

    wanted = {token for token, p in enumerate(likely) if p >= threshold or p == max(likely)}
    assert kept(logits, min_p=share) == wanted


@given(logits_of, st.integers(-1, VOCAB + 2))
def test_top_k_keeps_the_likeliest_and_their_ties(logits: list[float], count: int) -> None:
    threshold = sorted(logits)[-count] if 0 < count < VOCAB else -math.inf

    assert kept(logits, top_k=count) == {
        token for token, logit in enumerate(logits) if logit >= threshold
    }


@given(logits_of, st.floats(0.0, 1.0))
def test_top_p_keeps_the_smallest_set_that_is_likely_enough(
    logits: list[float], mass: float
) -> None:
    likely = probabilities(logits)
    sums = np.cumsum(sorted(likely, reverse=True))
    assume(all(abs(total - mass) > CLOSE for total in sums) or mass == 1.0)

    num_kept = int(np.searchsorted(sums, mass)) + 1
    threshold = sorted(logits, reverse=True)[min(num_kept, VOCAB) - 1]
    whole = mass == 1.0
    given = kept(logits, top_p=mass)
    assert given == {t for t, logit in enumerate(logits) if whole or logit >= threshold}


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.floats(0.05, 8.0), st.floats(0.01, 0.9999), st.integers(0, 1))
def test_top_p_finds_nuclei_of_every_size_in_a_large_vocabulary(
    seed: int, spread: float, mass: float, filtered: int
) -> None:
    """From the few that it looks at first to nearly all, after a top-k and without."""
    top_k = filtered * 3 * LIKELY_NUCLEI[-1]
    logits = torch.randn(4 * LIKELY_NUCLEI[-1] + 7, generator=seeded(seed)) * spread

    given = kept(logits.tolist(), top_p=mass, top_k=top_k)

    ordered = logits.double().sort(descending=True).values[: top_k or None]
    sums = ordered.softmax(0).cumsum(0)
    assert abs(len(given) - int((sums < mass).sum()) - 1) <= 1
    assert given == {
        t for t, x in enumerate(logits.tolist()) if x >= float(ordered[len(given) - 1])
    }


@pytest.mark.parametrize("size", [VOCAB, 2 * LIKELY_NUCLEI[0], 3 * LIKELY_NUCLEI[-1]])
@pytest.mark.parametrize("top_k", [0, 10, 2 * LIKELY_NUCLEI[-1]])
def test_a_top_p_that_rounding_cannot_tell_from_one_keeps_nearly_all(size: int, top_k: int) -> None:
    """The sum of all in one order may be less than this share of the sum in another."""
    for seed in range(40):
        scores = torch.randn(size, generator=seeded(seed)).numpy()

        allowed = survivors(scores, Sampling(temperature=1.0, top_k=top_k))
        given = survivors(scores, Sampling(temperature=1.0, top_k=top_k, top_p=1.0 - 2.0**-53))

        assert float(given.weights.sum()) == pytest.approx(float(allowed.weights.sum()))


@given(logits_of, st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-100, 100)), some_tokens)
def test_a_bias_is_added_and_what_is_banned_is_dropped(
    logits: list[float], bias: dict[int, float], banned: list[int]
) -> None:
    asked = replace(choice(Sampling(logit_bias=tuple(bias.items()))), banned=frozenset(banned))

    given = limited(doubles(logits), asked)

    wanted = [
        -math.inf if token in banned else logit + bias.get(token, 0.0)
        for token, logit in enumerate(logits)
    ]
    assert given.tolist() == pytest.approx(wanted)


def test_a_given_token_is_measured_and_not_chosen() -> None:
    sampling = Sampling(prompt_logprobs=1, repetition_penalty=2.0)
    asked = replace(choice(sampling, [1], 2), given=0)

    (one,) = chosen(torch.tensor([[0.0, 3.0]]), [asked])

    assert (one.token, one.top[0][0]) == (0, 1)
    assert one.logprob == pytest.approx(-3.04858735)


# --- against transformers -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def processors() -> Any:
    import transformers.generation.logits_process as processors

    return processors


def as_transformers(processor: Any, history: list[int], logits: list[float]) -> list[float]:
    scores = processor(torch.tensor([history]), torch.tensor([logits]))
    row: list[float] = scores[0].tolist()
    return row


@settings(max_examples=30)
@given(logits_of, st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=8), st.floats(0.5, 2.0))
def test_the_repetition_penalty_is_that_of_transformers(
    processors: Any, logits: list[float], history: list[int], penalty: float
) -> None:
    given = penalised(
        np.array(logits, np.float32),
        choice(Sampling(repetition_penalty=penalty), history, len(history)),
    )

    processor = processors.RepetitionPenaltyLogitsProcessor(penalty)
    assert given.tolist() == pytest.approx(as_transformers(processor, history, logits), rel=1e-5)


@settings(max_examples=30)
@given(
    logits_of, st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-10, 10), min_size=1), st.data()
)
def test_bias_and_min_tokens_are_those_of_transformers(
    processors: Any, logits: list[float], bias: dict[int, float], data: st.DataObject
) -> None:
    ends = data.draw(st.sets(st.integers(0, VOCAB - 1), min_size=1, max_size=3))
    asked = replace(choice(Sampling(logit_bias=tuple(bias.items()))), banned=frozenset(ends))

    given = limited(np.array(logits, np.float32), asked)

    biased = processors.SequenceBiasLogitsProcessor({(t,): amount for t, amount in bias.items()})
    shortest = processors.MinNewTokensLengthLogitsProcessor(2, 3, sorted(ends), device="cpu")
    wanted = as_transformers(shortest, [0, 1, 2], as_transformers(biased, [0, 1, 2], logits))
    assert given.tolist() == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=30)
@given(logits_of, st.integers(1, VOCAB), st.floats(0.05, 0.95), st.floats(0.05, 0.9))
def test_filters_are_those_of_transformers_but_for_ties(
    processors: Any, logits: list[float], count: int, mass: float, share: float
) -> None:
    assume(len(set(logits)) == VOCAB)
    likely = probabilities(logits)
    sums = np.cumsum(sorted(likely, reverse=True))
    assume(all(abs(total - mass) > 1e-5 for total in sums))
    assume(all(abs(p - share * max(likely)) > 1e-5 for p in likely))
    pairs = [
        (kept(logits, top_k=count), processors.TopKLogitsWarper(count)),
        (kept(logits, top_p=mass), processors.TopPLogitsWarper(mass)),
        (kept(logits, min_p=share), processors.MinPLogitsWarper(share)),
    ]

    for found, warper in pairs:
        wanted = as_transformers(warper, [0], logits)
        assert found == {token for token, logit in enumerate(wanted) if logit > -math.inf}


# --- drawing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.5, top_k=6),
        Sampling(temperature=2.0, top_p=0.8),
        Sampling(temperature=1.0, min_p=0.1, top_k=5),
        Sampling(temperature=0.8, repetition_penalty=1.3, presence_penalty=0.5),
        Sampling(temperature=1.2, logit_bias=((0, 1.5), (3, -2.0))),
    ],
)
def test_draws_follow_the_distribution(sampling: Sampling) -> None:
    logits = torch.linspace(-2.0, 2.0, VOCAB)[torch.randperm(VOCAB, generator=seeded(1))]
    num_draws, history = 3000, [1, 4, 4, 9]
    draws = [
        Choice(with_seed(sampling, seed), np.array(history, np.int32), 2)
        for seed in range(num_draws)
    ]

    counts = Counter(one.token for one in chosen(logits.expand(num_draws, -1), draws))

    wanted = distribution(logits.tolist(), choice(sampling, history, 2))
    assert set(counts) <= {token for token, p in enumerate(wanted) if p}
    expected = {token: p * num_draws for token, p in enumerate(wanted) if p}
    chi_square = sum((counts[t] - count) ** 2 / count for t, count in expected.items())
    assert chi_square < 31.3  # at most 11 degrees of freedom, p = 0.001


def distribution(logits: list[float], asked: Choice) -> list[float]:
    """Of tokens, by sorting; no two scores are equal."""
    sampling = asked.sampling
    scores = penalised(limited(doubles(logits), asked), asked) / sampling.temperature
    likely = probabilities(scores.tolist())
    order = sorted(range(len(likely)), key=lambda token: -likely[token])
    order = [token for token in order if likely[token] >= sampling.min_p * max(likely)]
    order = order[: sampling.top_k or None]
    whole = sum(likely[token] for token in order)
    sums = np.cumsum([likely[token] / whole for token in order])
    order = order[: int(np.searchsorted(sums, sampling.top_p)) + 1]
    whole = sum(likely[token] for token in order)
    return [p / whole if token in order else 0.0 for token, p in enumerate(likely)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_seed(sampling: Sampling, seed: int) -> Sampling:
    return msgspec.structs.replace(sampling, seed=seed)


@given(logits_of, st.integers(0, 2**64 - 1), st.integers(0, 50))
def test_a_draw_is_the_inverse_of_the_distribution_function(
    logits: list[float], seed: int, length: int
) -> None:
    logits = [float(np.float32(logit)) for logit in logits]
    fraction = uniform(seed, length)
    sums = np.cumsum(probabilities(logits))
    assume(all(abs(total - fraction) > CLOSE for total in sums))

    asked = choice(Sampling(temperature=1.0, seed=seed), [0] * length)
    (drawn,) = chosen(torch.tensor([logits]), [asked])

    assert drawn.token == int(np.searchsorted(sums, fraction))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 4))
def test_a_row_gets_the_same_token_in_every_batch(
    seed: int, num_neighbours: int, place: int
) -> None:
    rows = torch.randn(num_neighbours + 1, 3001, generator=seeded(seed)) * 3
    place = place % (num_neighbours + 1)
    others = [
        choice(Sampling(temperature=0.5 * index, seed=index), [3]) for index in range(len(rows))
    ]
    others[place] = choice(Sampling(temperature=0.9, top_p=0.95, seed=seed), [1, 2, 3])

    together = chosen(rows, others)
    alone = chosen(rows[place : place + 1], [others[place]])

    assert together[place] == alone[0]


def test_the_same_seed_draws_anew_at_every_position() -> None:
    flat = torch.zeros(1, 1000)

    tokens = [
        chosen(flat, [choice(Sampling(temperature=1.0, seed=5), [0] * length)])[0].token
        for length in range(40)
    ]

    assert len(set(tokens)) > 30


def test_greedy_rows_take_the_most_likely_token_alone_and_among_others() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    greedy = choice(Sampling())
    penalised_row = choice(Sampling(repetition_penalty=10.0), [0], 1)

    assert [one.token for one in chosen(logits, [greedy, greedy])] == [1, 0]
    assert [one.token for one in chosen(logits, [greedy, penalised_row])] == [1, 2]


def test_temperatures_near_zero_are_greedy_and_high_ones_still_draw() -> None:
    logits = torch.tensor([[0.0, 1e-3, -1e-3]])

    cold = chosen(logits, [choice(Sampling(temperature=1e-9, seed=3))])
    hot = {chosen(logits, [choice(Sampling(temperature=1e9, seed=s))])[0].token for s in range(40)}

    assert cold[0].token == 1
    assert hot == {0, 1, 2}


@given(logits_of, st.integers(0, VOCAB + 3))
def test_log_probabilities_are_of_the_raw_distribution(logits: list[float], count: int) -> None:
    sampling = Sampling(
        temperature=0.3, top_k=2, repetition_penalty=1.5, logprobs=count, seed=count
    )

    (one,) = chosen(torch.tensor([logits]), [choice(sampling, [1, 2, 3], 1)])

    wanted = [math.log(p) for p in probabilities(logits)]
    assert one.logprob == pytest.approx(wanted[one.token], abs=1e-4)
    assert [value for _, value in one.top] == pytest.approx(
        sorted(wanted, reverse=True)[:count], abs=1e-4
    )
    assert [wanted[token] for token, _ in one.top] == pytest.approx(
        [value for _, value in one.top], abs=1e-4
    )


def test_greedy_rows_report_log_probabilities_when_asked() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0]])

    (one,) = chosen(logits, [choice(Sampling(logprobs=0))])

    assert one.token == 1
    assert one.logprob == pytest.approx(-0.40760597)
    assert one.top == ()
