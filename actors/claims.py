"""What a flow may come to need at the engines that it is bound to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bus.messages import Request
from orchestrations.machine import Done, Instruction, Renew, State

from .standing import Claims, Standing

ANSWER_TOKENS: Final = 512
"""Tokens of an answer that room is kept for. Few become longer; those that do may have to give
their pages up for a while, which engines know how to do, and to keep room for all that a user
allows would leave most of it empty."""


def num_tokens(request: Request) -> int:
    """Of prompt and answers, as far as room is kept for them. Answers share the prompt's pages."""
    answer = max(0, request.sampling.max_tokens - request.offset)
    return len(request.prompt) + request.sampling.n * min(answer, ANSWER_TOKENS)


def claims(
    request: Request,
    state: State,
    touched: Iterable[str],
    commands: Iterable[Instruction],
    standing: Standing,
) -> Claims:
    """Pages by engine: of every engine that holds something, is being told something, or is named
    in the state's job as one that will be. A prefiller needs none for the answer."""
    if isinstance(state, Done):
        return {}
    job = getattr(state, "job", None)
    planned: tuple[str, ...] = getattr(job, "engines", ())
    prefill = getattr(job, "prefill", "")
    told = (command.engine for command in commands if not isinstance(command, Renew))
    engines = {*touched, *planned, *told}
    whole, prompt = num_tokens(request), len(request.prompt)
    return {e: standing.pages(e, prompt if e == prefill else whole) for e in engines}
