"""Everything that our actors measure, each instrument written once.

``gen_ai.*`` are OpenTelemetry's conventions, bounds included; the rest is ``microserve.*``. The
table in `docs/observability.md` is made of `ALL`.
"""

from __future__ import annotations

from typing import Final

from .metrics import Instrument

DURATION_BOUNDS_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24,
                            20.48, 40.96, 81.92)  # fmt: skip
FIRST_TOKEN_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                               1.0, 2.5, 5.0, 7.5, 10.0)  # fmt: skip
PER_TOKEN_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0,
                             2.5)  # fmt: skip

BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _counter(name: str, unit: str, description: str) -> Instrument:
    return Instrument(name, "counter", unit, description)


def _gauge(name: str, unit: str, description: str) -> Instrument:
    return Instrument(name, "gauge", unit, description)


# --- requests, as a router or a gateway saw them ------------------------------------------------

REQUEST_DURATION: Final = Instrument(
    "gen_ai.server.request.duration", "histogram", "s",
    "From a request to its last word.", DURATION_BOUNDS_S,
)  # fmt: skip
FIRST_TOKEN: Final = Instrument(
    "gen_ai.server.time_to_first_token", "histogram", "s",
    "From a request to its first token.", FIRST_TOKEN_BOUNDS_S,
)  # fmt: skip
PER_TOKEN: Final = Instrument(
    "gen_ai.server.time_per_output_token", "histogram", "s",
    "Between the tokens of an answer, after the first.", PER_TOKEN_BOUNDS_S,
)  # fmt: skip
OUTPUT_TOKENS: Final = _counter("microserve.output.tokens", "{token}", "Of answers that are over.")

# --- routers ------------------------------------------------------------------------------------

FLOWS: Final = _gauge("microserve.router.flows", "{flow}", "In flight, those that wait included.")
WAITING: Final = _gauge("microserve.router.waiting", "{flow}", "Wait until engines have room.")
EXPECTED_WAIT: Final = _gauge(
    "microserve.router.expected_wait", "s",
    "Of a newcomer, at the pace at which flows got room of late; 0 where nobody waits.",
)  # fmt: skip
ENGINES: Final = _gauge("microserve.router.engines", "{engine}", "Alive, as this router hears.")
ENDED: Final = _counter("microserve.router.ended", "{flow}", "By outcome.")
REFUSALS: Final = _counter(
    "microserve.router.refusals", "{refusal}",
    "By reason; `by` is intake (a request that cannot be) or engine (an order).",
)  # fmt: skip
LATE: Final = _counter("microserve.router.late", "{event}", "Answers that nobody waited for.")
TRANSITIONS: Final = _counter(
    "microserve.router.transitions", "{transition}", "Of strategies' states, and by which event."
)

# --- engines ------------------------------------------------------------------------------------

REQUESTS: Final = _gauge(
    "microserve.engine.requests", "{request}", "By state: waiting, running, expecting, suspended."
)
BATCH: Final = _gauge("microserve.engine.batch_size", "{sequence}", "Computed in the next step.")
PAGES: Final = _gauge(
    "microserve.engine.pages", "{page}", "By owner; the owners' pages add up to the pool."
)
TIER_PAGES: Final = _gauge("microserve.engine.tier.pages", "{page}", "In the second tier.")
PAGE_EVENTS: Final = _counter(
    "microserve.engine.page.events", "{page}", "Evicted, saved, restored, found corrupt."
)
STEPS: Final = _counter("microserve.engine.steps", "{step}", "Of the whole batch, computed.")
STEP_SEQUENCES: Final = Instrument(
    "microserve.engine.step.sequences", "histogram", "{sequence}",
    "Computed together in a step.", BATCH_BOUNDS,
)  # fmt: skip
FAILED_STEPS: Final = _counter("microserve.engine.failed_steps", "{step}", "That raised.")
STEP_TIME: Final = _counter("microserve.engine.step.time", "s", "Spent in steps.")
TOKENS: Final = _counter("microserve.engine.tokens", "{token}", "By phase: prefill, decode.")
WAITING_TOKENS: Final = _gauge(
    "microserve.engine.waiting.tokens", "{token}", "Of prompts, to be computed yet."
)
CACHE_TOKENS: Final = _counter(
    "microserve.engine.cache.tokens", "{token}", "Of prompts: hit or miss in the prefix cache."
)  # fmt: skip
RECEIVED_TOKENS: Final = _counter(
    "microserve.engine.received.tokens", "{token}", "Whose KV came from another engine."
)
PREEMPTIONS: Final = _counter("microserve.engine.preemptions", "{request}", "For want of pages.")
ENGINE_REFUSALS: Final = _counter("microserve.engine.refusals", "{refusal}", "Orders, by reason.")
TRANSFERS: Final = _counter("microserve.kv.transfers", "{transfer}", "Out of here, acknowledged.")
TRANSFER_BYTES: Final = _counter("microserve.kv.transfer.size", "By", "Moved by them.")
TRANSFER_TIME: Final = _counter(
    "microserve.kv.transfer.time", "s", "By part: hidden behind computing, and exposed."
)

# --- every actor --------------------------------------------------------------------------------

CONNECTED: Final = _gauge(
    "microserve.bus.connected", "{connection}", "1 while the broker is there."
)
MESSAGES: Final = _counter("microserve.bus.messages", "{message}", "Published and received.")
SLOW_CONSUMER: Final = _counter(
    "microserve.bus.dropped", "{message}", "Lost because this actor was too slow for them."
)
RECONNECTS: Final = _counter("microserve.bus.reconnects", "{connection}", "To the broker.")
BUS_ERRORS: Final = _counter("microserve.bus.errors", "{error}", "Complaints of the broker.")
SPANS: Final = _counter("microserve.trace.spans", "{span}", "By fate: written, dropped.")

# --- gateways -----------------------------------------------------------------------------------

OPEN_REQUESTS: Final = _gauge("microserve.gateway.requests", "{request}", "Being answered.")
BEATS: Final = {
    name: _gauge(f"microserve.fleet.{name}", unit, description)
    for name, unit, description in (
        ("load", "{request}", "Waiting or running at an engine, as its newest beat says."),
        ("slots", "{request}", "That the engine computes at once."),
        ("free_pages", "{page}", "That a new request can have."),
        ("total_pages", "{page}", "Of the engine's pool."),
        ("waiting_tokens", "{token}", "Of prompts, to be computed yet."),
        ("prefill_tokens_per_s", "", "Of the last seconds of work."),
        ("decode_step_s", "", "Seconds of a decode step, of late."),
        ("transfer_bytes_per_s", "", "Of the last transfers."),
    )
}
"""By the beat's field."""

ALL: Final[tuple[Instrument, ...]] = (
    *(value for value in list(globals().values()) if isinstance(value, Instrument)),
    *BEATS.values(),
)
