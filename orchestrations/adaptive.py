"""The split of the prompt that costs least now, by what the fleet says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from bus.estimates import LONG_ANSWER_TOKENS, Plan, cost_s, even_split, measured, prompt_shares
from bus.fleet import Engine
from bus.messages import Event, Request, Submitted

from .machine import Idle, Job, State, Step, nearly_all, prepare
from .resilient import resilient


def adaptive(state: State, event: Event) -> Step:
    """One engine does it all, or two share the prompt, or one prefills and the other decodes:
    whatever costs the fewest seconds, the user's own and those of everybody whom he delays."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            names = {*fleet.pair(request.prompt), fleet.best_prefix(request.prompt)}
            few = measured([fleet.engine(name) for name in sorted(names)])
            shares = prompt_shares(few)
            plan = min(_plans(request, few), key=lambda p: cost_s(p, shares[p.decode.name]))
            prefill = plan.prefill.name if plan.prefill else ""
            return prepare(Job(request, plan.decode.name, prefill, plan.split))
    return resilient(state, event)


def _plans(request: Request, engines: Sequence[Engine]) -> Iterator[Plan]:
    """The cost is a broken line over the split, with its least at an end or at a break. Of the
    breaks the one is tried that counts where sending is faster than computing: neither waits for
    the other there."""
    size, answer = len(request.prompt), min(request.sampling.max_tokens, LONG_ANSWER_TOKENS)
    for engine in engines:
        yield Plan(size, answer, engine)
    for prefill, decode in permutations(engines, 2):
        for split in {even_split(size, prefill, decode), size - 1}:
            if split > decode.cached and not nearly_all(split, decode.cached):
                yield Plan(size, answer, decode, prefill, split)
