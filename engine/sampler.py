"""Choose the next token of each row from its logits.

A row's token is a function of its own logits, parameters, seed and position, whatever else is in
the batch. Rows of which few tokens matter are looked at together; the others one by one, on the
host: what is to be done with one is a few passes over its numbers and then work on few of them,
where a library of tensors would spend its time on calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from torch import Tensor

from .drawing import draw
from .drawing_few import draw_each
from .likeliest import Numbers, largest
from .logit_filters import filtered, has_filters
from .philox import uniform
from .runner import Choice, Found, NoToken, Sampled, wanted_logprobs
from .shortlists import LONGEST_WANTED, Scores, Shortlisting, Wanted, shortlists
from .survivors import survivors

GREEDY_BELOW = 1e-5
"""Temperatures under this mean: take the most likely token (as in vLLM)."""
NOT_NUMBERS = NoToken(
    "the model's scores for the next token are not finite numbers: its weights, an adapter or the"
    " KV that it read are damaged, or too large for their type"
)
NONE_ALLOWED = NoToken("no token may come next: bans and the grammar together leave none")


def choose(
    logits: Tensor, choices: Sequence[Choice], likeliest: Shortlisting = shortlists
) -> list[Found]:
    """One token per row of ``[rows, vocab_size]`` float32 logits, in order, or why there is none.

    Log-probabilities are those of the raw distribution, before penalties, temperature and filters,
    and natural logarithms; they are computed where `Sampling.logprobs` asks for them.
    """
    if all(map(_is_plain, choices)):
        return _first_of_all(logits)
    raw = logits.cpu().numpy()
    changed = {row: filtered(raw[row], one) for row, one in enumerate(choices) if _changes(one)}
    scores = Scores(raw, changed)
    few = _from_few(scores, choices, likeliest)
    return [
        _found(raw[row], choice, few[row] if row in few else _from_all(scores, row, choice))
        for row, choice in enumerate(choices)
    ]


def _is_plain(choice: Choice) -> bool:
    """Nothing but the most likely token is wanted."""
    greedy = choice.sampling.temperature < GREEDY_BELOW
    is_chosen = choice.given is None and wanted_logprobs(choice) is None
    return greedy and is_chosen and not has_filters(choice)


def _changes(choice: Choice) -> bool:
    return choice.given is None and has_filters(choice)


def _first_of_all(logits: Tensor) -> list[Found]:
    """Where they are: only tokens and their scores leave the device. A NaN counts as the largest,
    for torch and numpy alike."""
    if logits.device.type == "cpu":
        raw = logits.numpy()
        places = raw.argmax(1)
        tokens, finite = places.tolist(), np.isfinite(raw[np.arange(len(raw)), places]).tolist()
    else:
        scores, indexes = logits.max(-1)
        tokens, finite = indexes.tolist(), scores.isfinite().tolist()
    return [
        Sampled(token) if is_number else NOT_NUMBERS
        for token, is_number in zip(tokens, finite, strict=True)
    ]


def _found(logits: Numbers, choice: Choice, token: int | NoToken) -> Found:
    if isinstance(token, NoToken):
        return token
    count = wanted_logprobs(choice)
    return Sampled(token) if count is None else _with_logprobs(logits, token, count)


def _with_logprobs(logits: Numbers, token: int, count: int) -> Found:
    """The likeliest first; of equal ones the token with the lower id."""
    highest = logits.max()
    if not isfinite(highest):
        return NOT_NUMBERS
    mass = np.exp(logits - highest).sum(dtype=np.float64)
    whole = float(highest) + float(np.log(mass))
    pairs = sorted((-float(logits[t]), t) for t in largest(logits, count).tolist()) if count else []
    top = tuple((t, -lower - whole) for lower, t in pairs[:count])
    return Sampled(token, float(logits[token]) - whole, top)


# --- tokens ---------------------------------------------------------------------------------------


def _from_few(scores: Scores, choices: Sequence[Choice], likeliest: Shortlisting) -> dict[int, int]:
    """By row, where a shortlist is wanted and there is one."""
    wanted = [Wanted(row, n) for row, one in enumerate(choices) if (n := _num_wanted(one))]
    if not wanted:
        return {}
    lists = likeliest(scores, wanted)
    places = np.flatnonzero(lists.counts > 0).tolist()
    if not places:
        return {}
    rows = [wanted[place].row for place in places]
    samplings = [choices[row].sampling for row in rows]
    fractions = [_fraction(choices[row]) for row in rows]
    return dict(zip(rows, draw_each(lists.some(places), samplings, fractions), strict=True))


def _num_wanted(choice: Choice) -> int:
    """On a list of the likeliest tokens; 0 where that does not help."""
    sampling = choice.sampling
    is_few = 0 < sampling.top_k <= LONGEST_WANTED
    is_drawn = choice.given is None and sampling.temperature >= GREEDY_BELOW
    return sampling.top_k if is_few and is_drawn else 0


def _from_all(scores: Scores, row: int, choice: Choice) -> int | NoToken:
    if choice.given is not None:
        return choice.given
    numbers, sampling = scores.of(row), choice.sampling
    first = int(numbers.argmax())  # of a NaN, if there is one
    if not isfinite(numbers[first]):
        return NONE_ALLOWED if isfinite(scores.logits[row].max()) else NOT_NUMBERS
    if sampling.temperature < GREEDY_BELOW:
        return first
    return draw(survivors(numbers, sampling), _fraction(choice))


def _fraction(choice: Choice) -> float:
    return uniform(choice.sampling.seed, len(choice.history), choice.index)
