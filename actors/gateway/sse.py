"""Server-sent events: one JSON value a frame, with OpenAI's last word."""

from __future__ import annotations

from typing import Any, Final

from bus.codec import encode_json

DONE: Final = b"data: [DONE]\n\n"
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
"""The last is for proxies that would collect frames."""


def frame(value: Any, event: str = "") -> bytes:
    """JSON of ours has no newline, so that one line of data is enough."""
    named = b"event: " + event.encode() + b"\n" if event else b""
    return named + b"data: " + encode_json(value) + b"\n\n"
