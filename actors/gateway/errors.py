"""What goes wrong for a user of HTTP, in the shape in which OpenAI tells it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bus.messages import Reason

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class HttpError(Exception):
    """A request that gets an error for an answer; nothing of it goes on."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str = "",
        param: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers

    @property
    def body(self) -> dict[str, Any]:
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "server_error"),
                "param": self.param,
                "code": self.code or None,
            }
        }


_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
_STATUS: Mapping[str, tuple[int, str]] = {
    "bad_message": (400, ""),
    "bad_range": (400, ""),
    "bad_request": (400, ""),
    "busy": (429, "rate_limit_exceeded"),
    "no_engine": (503, "no_engine"),
    "no_such_flow": (404, "no_such_flow"),
    "not_supported": (400, "not_supported"),
    "out_of_order": (409, "out_of_order"),
    "stale_attempt": (409, "stale_attempt"),
    "stale_epoch": (409, "stale_epoch"),
    "too_large": (413, "request_too_large"),
    "too_long": (400, "context_length_exceeded"),
    "unknown_model": (404, "model_not_found"),
    "unknown_orchestration": (400, "unknown_orchestration"),
}


def refused(reason: Reason, message: str) -> HttpError:
    """A refusal of the router or an engine."""
    status, code = _STATUS.get(reason, (500, reason))
    return HttpError(status, message, code)


def bad(message: str, param: str | None = None, code: str = "") -> HttpError:
    return HttpError(400, message, code, param)
