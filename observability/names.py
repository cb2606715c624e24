"""The names of our spans and attributes, each written once.

``gen_ai.*`` and ``messaging.*`` are OpenTelemetry's conventions; what they have no word for is
``microserve.*``. `docs/observability.md` has the table.
"""

from __future__ import annotations

from typing import Final

from .spans import Attribute

REQUEST: Final = "microserve.request"
TRANSFER: Final = "kv.transfer"
TRANSITION: Final = "transition"

ROUTER_SERVICE: Final = "microserve-router"
GATEWAY_SERVICE: Final = "microserve-gateway"

FLOW: Final = "microserve.flow"
ORCHESTRATION: Final = "microserve.orchestration"
VERSION: Final = "microserve.orchestration.version"
POLICY: Final = "microserve.policy.version"
OUTCOME: Final = "microserve.outcome"
STATE: Final = "microserve.state"
ENGINE: Final = "microserve.engine"
VERB: Final = "microserve.verb"
ATTEMPT: Final = "microserve.attempt"
PHASE: Final = "microserve.phase"
UNANSWERED: Final = "microserve.unanswered"
DROPPED_EVENTS: Final = "microserve.dropped_events"
DROPPED_SPANS: Final = "microserve.dropped_spans"
DROPPED_PHASES: Final = "microserve.dropped_phases"
CANDIDATES: Final = "microserve.candidates"
SCORES: Final = "microserve.scores"
CHOSEN: Final = "microserve.chosen"
WAITS_FOR: Final = "microserve.waits_for"
"""``credit``: until engines have room for it."""
AHEAD: Final = "microserve.ahead"
LINK: Final = "microserve.link"

KV_BYTES: Final = "microserve.kv.bytes"
KV_PAGES: Final = "microserve.kv.pages"
KV_RUNS: Final = "microserve.kv.runs"
KV_LANE: Final = "microserve.kv.lane"
KV_GB_PER_S: Final = "microserve.kv.gb_per_s"
KV_SECONDS: Final = "microserve.kv.seconds"
KV_SECONDS_WRITING: Final = "microserve.kv.seconds_writing"
KV_SECONDS_HIDDEN: Final = "microserve.kv.seconds_hidden"
KV_SECONDS_EXPOSED: Final = "microserve.kv.seconds_exposed"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TTFT_S: Final = "gen_ai.response.time_to_first_chunk"


def engine_service(engine: str) -> str:
    """One service per engine: each has its own colour in Jaeger, so a hand-over is seen at once."""
    return f"microserve-engine-{engine}"


def own(key: str) -> str:
    """Our name for an attribute that was given a bare word."""
    return key if "." in key else f"microserve.{key}"


def messaging(operation: str, verb: str, engine: str, attempt: int) -> dict[str, Attribute]:
    """What both ends of a command say of it; ``operation`` is ``send`` or ``process``."""
    return {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.template": "ms.engine.{engine}.{verb}",
        ENGINE: engine,
        VERB: verb,
        ATTEMPT: attempt,
    }
