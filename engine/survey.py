"""An engine looked at from outside: its numbers, and whether everything in it adds up."""

from __future__ import annotations

from collections.abc import Iterator

from .context import Context
from .flows import Flow
from .parts import Parts
from .statistics import EngineStatistics


def survey(parts: Parts) -> EngineStatistics:
    """Nothing is counted now: the sums are there."""
    sums, pages, counters = parts.tally.sums, parts.pages, parts.counters
    tier = pages.tier
    return EngineStatistics(
        waiting=parts.scheduler.num_waiting,
        running=parts.scheduler.num_running,
        expecting=sums.expecting,
        suspended=sums.suspended,
        sending=sums.sending,
        receiving=sums.receiving,
        flows=len(parts.flows),
        total_pages=pages.num_pages,
        free_pages=pages.num_free,
        cached_pages=pages.num_cached,
        granted_pages=sums.granted_pages,
        used_pages=pages.num_in_use - sums.granted_pages,
        pinned_pages=len(pages.pins.pages()),
        tier_pages=tier.num_pages if tier else 0,
        evicted_pages=pages.num_evictions,
        saved_pages=tier.num_saved if tier else 0,
        restored_pages=tier.num_restored if tier else 0,
        corrupt_pages=tier.num_corrupt if tier else 0,
        steps=counters.steps,
        steps_by_batch=tuple(counters.steps_by_batch),
        step_s=counters.step_s,
        prefill_tokens=counters.prefill_tokens,
        decode_tokens=counters.decode_tokens,
        guessed_tokens=counters.guessed_tokens,
        right_guesses=counters.right_guesses,
        matchable_tokens=counters.matchable_tokens,
        matched_tokens=counters.matched_tokens,
        received_tokens=counters.received_tokens,
        preemptions=counters.preemptions,
        forgone_contexts=counters.forgone_contexts,
        finished=counters.finished,
        refused=counters.refused,
        failed_steps=counters.failed_steps,
        waiting_tokens=parts.scheduler.num_pending_tokens,
        prefill_s=counters.rates.prefill_s,
        prefill_tokens_per_s=counters.rates.prefill_tokens_per_s,
        decode_step_s=counters.rates.decode_step_s,
        decode_base_s=counters.rates.decode_base_s,
        decode_row_s=counters.rates.decode_row_s,
        transfer_bytes_per_s=counters.rates.transfer_bytes_per_s,
    )


def check_integrity(parts: Parts) -> None:
    """
    Raises:
        AssertionError: pages or contexts do not add up.
    """
    parts.tally.check_integrity(parts.flows)
    contexts = [context for flow in parts.flows for context in _contexts(flow)]
    parts.pages.check_integrity(page for context in contexts for page in context.held())
    known = {id(context) for context in contexts}
    for context in parts.scheduler.contexts():
        assert id(context) in known, "something is scheduled that belongs to no flow"
    for flow in parts.flows:
        _check_granted(flow, parts)


def _contexts(flow: Flow) -> Iterator[Context]:
    for part in (flow.reception, *flow.generations, flow.sending):
        if part:
            yield part.context


def _check_granted(flow: Flow, parts: Parts) -> None:
    """A peer may write: so nobody else may see, compute on or reuse these pages."""
    if flow.reception is None or not flow.reception.is_arriving:
        return
    context = flow.reception.context
    granted = context.table[context.num_pages - flow.reception.num_granted :]
    assert all(parts.pages.is_private(int(page)) for page in granted)
