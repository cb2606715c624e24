"""A JSON answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bus.codec import encode_json


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=encode_json(value), content_type="application/json", status=status, headers=headers
    )
