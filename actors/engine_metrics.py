"""An engine's points: what its statistics and its host's say, as instruments."""

from __future__ import annotations

from collections.abc import Iterator

from engine.statistics import EngineStatistics
from observability import instruments as of
from observability.metrics import Labels, Point, distributed

from .hosting import HostStatistics


def engine_points(engine: EngineStatistics, host: HostStatistics, labels: Labels) -> list[Point]:
    """``labels`` name the engine and its model, and are on every point."""
    found = [*_now(engine), *_counts(engine), *_host(host)]
    return [Point(p.instrument, p.value, {**labels, **p.labels}) for p in found]


def _now(engine: EngineStatistics) -> Iterator[Point]:
    for state in ("waiting", "running", "expecting", "suspended"):
        yield Point(of.REQUESTS, getattr(engine, state), {"state": state})
    yield Point(of.BATCH, engine.running)
    owners = {
        "free": engine.free_pages,
        "cached": engine.cached_pages,
        "granted": engine.granted_pages,
        "used": engine.used_pages - engine.pinned_pages,
        "pinned": engine.pinned_pages,
    }
    for owner, count in owners.items():
        yield Point(of.PAGES, count, {"owner": owner})
    yield Point(of.TIER_PAGES, engine.tier_pages)
    yield Point(of.WAITING_TOKENS, engine.waiting_tokens)


def _counts(engine: EngineStatistics) -> Iterator[Point]:
    for event in ("evicted", "saved", "restored", "corrupt"):
        yield Point(of.PAGE_EVENTS, getattr(engine, f"{event}_pages"), {"event": event})
    yield Point(of.STEPS, engine.steps)
    batches = distributed(of.STEP_SEQUENCES, engine.steps_by_batch)
    yield Point(of.STEP_SEQUENCES, batches)
    yield Point(of.FAILED_STEPS, engine.failed_steps)
    yield Point(of.STEP_TIME, engine.step_s)
    yield Point(of.TOKENS, engine.prefill_tokens, {"phase": "prefill"})
    yield Point(of.TOKENS, engine.decode_tokens, {"phase": "decode"})
    yield Point(of.CACHE_TOKENS, engine.matched_tokens, {"result": "hit"})
    missed = engine.matchable_tokens - engine.matched_tokens
    yield Point(of.CACHE_TOKENS, missed, {"result": "miss"})
    yield Point(of.RECEIVED_TOKENS, engine.received_tokens)
    yield Point(of.PREEMPTIONS, engine.preemptions)


def _host(host: HostStatistics) -> Iterator[Point]:
    for reason, count in host.refusals.items():
        yield Point(of.ENGINE_REFUSALS, count, {"reason": reason})
    for lane, moved in host.transfers.items():
        yield Point(of.TRANSFERS, moved.count, {"lane": lane})
        yield Point(of.TRANSFER_BYTES, moved.num_bytes, {"lane": lane})
        hidden_s = moved.seconds - moved.exposed_s
        yield Point(of.TRANSFER_TIME, hidden_s, {"lane": lane, "part": "hidden"})
        yield Point(of.TRANSFER_TIME, moved.exposed_s, {"lane": lane, "part": "exposed"})
