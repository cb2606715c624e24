"""What it would cost to serve a request in some way: its own seconds, and those of everybody else.

```
prefiller   |<-- backlog -->|<-- prompt[:split] -->|
decoder     |<-- backlog -->|     (others)         |<-- prompt[split:] -->|<-- answer ... -->|
```

A prompt keeps everybody waiting who is at its engine: those who decode there, and those who will
come before it is over. How many will come nobody knows; but where many are, many come, and leaving
them out drowns the prefiller. An answer is itself kept waiting by the prompts that come later: an
engine that prefills for others is the worst place for it.

What an answer takes from those who decode beside it is left out. It takes that wherever it goes,
and what differs between two engines is in its own time already: each step is longer where there are
more of them. The constants were chosen by hand, with a simulation of two engines that is not part
of the project; docs/performance.md says how far real fleets bear them out (`bench orchestrations`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .fleet import Engine

CROWD: Final = 1.5
"""For each who is at an engine when a prompt comes, so many are kept waiting by it: him, and those
who come meanwhile."""
HANDING_OVER_STEPS: Final = 4
"""What each of two engines is kept from its other work by orders, pages and notices, in times that
a step takes anyway."""
LASTING: Final = 0.5
"""At most, of what prompts had of an engine's time lately, they are expected to have again."""
FULL: Final = 0.95
"""Of its time, an engine that computes prompts without a pause; the rest goes to answers."""
LONG_ANSWER_TOKENS: Final = 512
"""What users allow is seldom used up: nobody is taken to answer at greater length than this."""


class Plan(Struct, frozen=True):
    """One engine does it all; or a prefiller computes ``prompt[:split]``, and sends it."""

    prompt_tokens: int
    answer_tokens: int
    decode: Engine
    prefill: Engine | None = None
    split: int = 0


def cost_s(plan: Plan, prompt_share: float = 0.0) -> float:
    """Seconds until its answer is over, and seconds that all others at its engines lose by it.
    ``prompt_share`` of the decoder's time is expected to go to prompts meanwhile.

    Layers are sent while later ones are computed. Reserving the pages and taking them over wait for
    half a step of the decoder each.
    """
    decode, size, answer = plan.decode, plan.prompt_tokens, plan.answer_tokens
    ready_s, others_s, here = backlog_s(decode), 0.0, decode.missing(size)
    if plan.prefill is not None:
        there_s = plan.prefill.prefill_s(plan.prefill.missing(plan.split))
        transfer_s = plan.prefill.transfer_s(decode.missing(plan.split))
        handed_over_s = max(there_s, transfer_s) + step_s(decode, decode.decoding)
        ready_s = max(ready_s, backlog_s(plan.prefill) + handed_over_s)
        others_s = there_s * plan.prefill.load + _handing_over_s(plan.prefill, decode)
        here = size - max(plan.split, decode.cached)
    here_s = decode.prefill_s(here)
    others_s = CROWD * (others_s + here_s * decode.load)
    answer_s = answer * step_s(decode, decode.decoding + 1) / (1 - min(prompt_share, FULL))
    return ready_s + here_s + answer_s + others_s


def even_split(size: int, prefill: Engine, decode: Engine) -> int:
    """Where the prefiller would be done just when the decoder has worked off what waits there: the
    decoder computes the rest without a pause. Sending is not counted. At least 1, but never the
    last token: 0 for a prompt that has no other."""
    meanwhile_s = backlog_s(decode) - backlog_s(prefill)
    return min(max(1, prefill.cached + int(meanwhile_s / prefill.prefill_s(1))), size - 1)


def prompt_shares(engines: Iterable[Engine]) -> dict[str, float]:
    """Which share of each engine's time is going to be spent on prompts, by name.

    Prompts are expected where they went lately: the engine that has computed most of them takes
    what all of these engines had, until it is full. To go on as it was, half here and half there,
    is no better guess, since everybody who decides by this makes it come true. The less there were,
    the less they keep to one engine: hence the square. Where prompts wait that are for other
    engines, more of them will come.
    """
    ranked = sorted(engines, key=lambda e: (-e.prefill_share, e.role != "prefill", e.name))
    left, shares = sum(engine.prefill_share for engine in ranked), dict[str, float]()
    for engine in ranked:
        lately = min(FULL, left)
        shares[engine.name] = FULL if engine.prefills_for_others else LASTING * lately**2
        left -= lately
    return shares


def measured(engines: Sequence[Engine]) -> list[Engine]:
    """The same engines; who has not measured yet how fast it computes prompts, such as a decoder
    that was sent them all, is taken to be as fast as the fastest of them."""
    fastest = max((engine.prefill_tokens_per_s for engine in engines), default=0.0)
    return [
        engine if engine.prefill_tokens_per_s else replace(engine, prefill_tokens_per_s=fastest)
        for engine in engines
    ]


def _handing_over_s(*engines: Engine) -> float:
    """Seconds that those lose who are there, by what is besides the prompt and its bytes."""
    return HANDING_OVER_STEPS * sum(engine.load * engine.decode_base_s for engine in engines)


def backlog_s(engine: Engine) -> float:
    """Seconds that the prompts take which wait there."""
    return engine.prefill_s(engine.waiting_tokens)


def step_s(engine: Engine, num_answers: int) -> float:
    """Seconds of a step that decodes so many answers; 0 where it has not measured any yet."""
    return engine.decode_base_s + num_answers * engine.decode_row_s
