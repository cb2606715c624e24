"""What can go wrong with a request, each with a type of its own, so that a program can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bus.messages import Reason
from bus.public import Rejected


class GenerateError(Exception):
    """The request will not be answered."""


class RequestRejected(GenerateError):
    """The router turned the request down and says why. Nothing was begun."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(f"{rejected.reason}: {rejected.message}")
        self.rejected = rejected

    @property
    def reason(self) -> Reason:
        return self.rejected.reason


class Busy(RequestRejected):
    """Engines and queues are full: the same request may be taken later."""


class TooLong(RequestRejected):
    """The prompt has no room in the model's context, or in a message."""


class BadRequest(RequestRejected):
    """It asks for what cannot be; asking again is of no use."""


class NoEngine(RequestRejected):
    """No live engine can do it now."""


class UnclearModel(GenerateError):
    """No model was named, and the fleet does not serve exactly one; ``models`` are those seen."""

    def __init__(self, models: Sequence[str]) -> None:
        several = f"several models are served, name one of them: {', '.join(models)}"
        none = "no engine is up: is this the right broker and namespace?"
        super().__init__(several if models else none)
        self.models = tuple(models)


class NoRouter(GenerateError):
    """Nobody took the request."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"no router took the request for model {model!r}: is the system running "
            "('microserve up'), and is this the namespace it uses?"
        )


class ConnectionLost(GenerateError):
    """The connection to the broker was lost, and with it, perhaps, a part of the answer."""

    def __init__(self) -> None:
        super().__init__("the connection to the broker was lost while an answer was on its way")


class GenerationFailed(GenerateError):
    """It was begun and could not be finished; ``num_tokens`` had come."""

    def __init__(self, flow: str, num_tokens: int, message: str) -> None:
        super().__init__(f"flow {flow} failed after {num_tokens} tokens: {message}")
        self.flow, self.num_tokens, self.message = flow, num_tokens, message


_BY_REASON: Mapping[Reason, type[RequestRejected]] = {
    "busy": Busy,
    "too_long": TooLong,
    "too_large": TooLong,
    "bad_message": BadRequest,
    "bad_request": BadRequest,
    "not_supported": BadRequest,
    "unknown_model": BadRequest,
    "unknown_orchestration": BadRequest,
    "no_engine": NoEngine,
}


def rejection(rejected: Rejected) -> RequestRejected:
    """The error for what a router said."""
    return _BY_REASON.get(rejected.reason, RequestRejected)(rejected)
