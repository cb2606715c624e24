"""Move a context, such as the prefix of a conversation, to another engine's cache."""

from __future__ import annotations

from msgspec.structs import replace

from bus.messages import Commit, Committed, Event, Prepared, Release, RemoteSend, Sent, Submitted

from .data_parallel import data_parallel
from .machine import Done, Idle, Job, Preparing, Sending, State, Step, prepare


def migrate_context(state: State, event: Event) -> Step:
    """Nothing is generated, where ``max_tokens`` is 0; else one engine does it all."""
    match state, event:
        case Idle(), Submitted(request, fleet) if request.sampling.max_tokens == 0:
            to = fleet.engine(request.engine).name if request.engine else fleet.least_loaded()
            source = fleet.without(to).best_prefix(request.prompt)
            return prepare(Job(request, to, source, split=len(request.prompt)))
        case Preparing(job), Prepared(grant, matched) if matched < job.split:
            sent = RemoteSend(job.prefill, job.prompt, grant, matched, job.split)
            return Sending(job), [sent, Commit(job.decode)]
        case Preparing(job), Prepared():
            return Sending(replace(job, prefill="")), [Commit(job.decode)]
        case Sending(job), Sent():
            return Sending(replace(job, prefill="")), []
        case Sending(job), Committed():
            return Done("kept"), [Release(job.prefill)] if job.prefill else []
    return data_parallel(state, event)
