"""What a flow's trace and its user are told of it, besides its tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from bus.codec import encode, encode_json
from bus.messages import Event, Finished, FinishReason, Mailbox, Usage
from bus.public import Done as Ended
from bus.public import Reply
from observability import names
from observability.spans import Attribute
from orchestrations.machine import Done, Outcome

from .effects import Publish
from .flow import Flow
from .inputs import Asked
from .versions import Ref

logger = logging.getLogger("microserve.router")

_REASONS: Mapping[Outcome, FinishReason] = {"cancelled": "cancelled", "kept": "length"}
WELL: tuple[Outcome, ...] = ("finished", "kept", "cancelled")
"""Ends that are nobody's fault."""


def say(reply: Mailbox, message: Reply) -> Publish:
    payload = encode_json(message) if reply.encoding == "json" else encode((message,))
    return Publish(reply.subject, payload)


def last_word(flow: Flow, done: Done) -> Ended:
    """What the user hears from the router where no engine has said the last word."""
    reason = _REASONS.get(done.outcome, "error")
    usage = Usage(prompt_tokens=len(flow.request.prompt), completion_tokens=flow.num_tokens)
    return Ended(flow.id, flow.num_tokens, reason, usage, done.message)


def request_attributes(asked: Asked, ref: Ref) -> dict[str, Attribute]:
    sampling = asked.request.sampling
    return {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "microserve",
        "gen_ai.request.model": asked.model,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.usage.input_tokens": len(asked.request.prompt),
        names.FLOW: asked.flow,
        names.ORCHESTRATION: ref.name,
        names.VERSION: str(ref),
    }


def end_attributes(flow: Flow, event: Event | None) -> dict[str, Attribute]:
    """The strategy is told again: one that failed may have been replaced since the begin."""
    attributes: dict[str, Attribute] = {
        "gen_ai.usage.output_tokens": flow.num_tokens,
        names.ORCHESTRATION: flow.serving.ref.name,
        names.VERSION: str(flow.serving.ref),
    }
    if flow.policy is not None:
        attributes[names.POLICY] = str(flow.policy)
    if isinstance(event, Finished):
        attributes["gen_ai.usage.output_tokens"] = event.usage.completion_tokens
        attributes["gen_ai.response.finish_reasons"] = (event.reason,)
        attributes["microserve.cached_tokens"] = event.usage.cached_tokens
    if flow.first_token_s is not None:
        attributes[names.TTFT_S] = flow.first_token_s - flow.began_s
    return attributes


def log_end(flow: Flow, outcome: Outcome, error: str | None, now: float) -> None:
    """One line for each flow, loud where somebody is at fault."""
    level = logging.WARNING if error else logging.INFO
    if logger.isEnabledFor(level):
        took_s, why = now - flow.began_s, f": {error}" if error else ""
        told = f"{flow.serving.ref.name}, {outcome} after {took_s:.3f} s, {flow.num_tokens} tokens"
        logger.log(level, "%s%s", told, why, extra=flow.about)
