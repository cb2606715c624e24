"""The split of the prompt that costs least now, by what the fleet says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from bus.fleet import Engine, Fleet
from bus.messages import Event, Request, Submitted

from .machine import Idle, Job, State, Step, prepare
from .resilient import resilient


def adaptive(state: State, event: Event) -> Step:
    """One engine does it all, or two share the prompt, or one prefills and the other decodes:
    whatever costs the fewest seconds, the user's own and those of everybody whom he delays."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            return prepare(min(_plans(request, fleet), key=lambda job: _cost_s(job, fleet)))
    return resilient(state, event)


def _plans(request: Request, fleet: Fleet) -> Iterator[Job]:
    """The cost is a broken line over the split, so that the best is at an end or at the break:
    where the prefiller is done when the decoder has worked off what waits there."""
    size = len(request.prompt)
    names = fleet.pair(request.prompt)
    prefill, decode = map(fleet.engine, names)
    for name in {*names, fleet.best_prefix(request.prompt)}:
        yield Job(request, name)
    meanwhile_s = _backlog_s(decode) - _backlog_s(prefill)
    done_by_then = prefill.cached + int(meanwhile_s / prefill.prefill_s(1))
    for split in {max(0, min(done_by_then, size - 1)), size - 1}:
        yield Job(request, decode.name, prefill.name, split)


def _cost_s(job: Job, fleet: Fleet) -> float:
    """
    ```
    prefiller   |<-- backlog -->|<-- prompt[:split] -->|
    decoder     |<-- backlog -->|      (idle)          |<-- prompt[split:] -->|<-- answer ...
    ```
    """
    decode, size = fleet.engine(job.decode), len(job.prompt)
    ready_s, cost_s, here = _backlog_s(decode), 0.0, decode.missing(size)
    if job.prefill and job.split:
        prefill, here = fleet.engine(job.prefill), size - max(job.split, decode.cached)
        there_s = prefill.prefill_s(prefill.missing(job.split))
        transfer_s = decode.transfer_s(decode.missing(job.split))
        ready_s = max(ready_s, _backlog_s(prefill) + max(there_s, transfer_s))
        cost_s = prefill.load * there_s
    here_s = decode.prefill_s(here)
    # A token more at each step makes it longer for all by about what it costs ourselves.
    answer_s = 2 * job.request.sampling.max_tokens * decode.decode_step_s
    return cost_s + ready_s + here_s + decode.load * here_s + answer_s


def _backlog_s(engine: Engine) -> float:
    return engine.prefill_s(engine.waiting_tokens)
