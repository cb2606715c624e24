"""Small pools for tests."""

from __future__ import annotations

from typing import Any

from bus.transfers import PoolShape


def shape(num_pages: int = 16, **changed: Any) -> PoolShape:
    fields: dict[str, Any] = {
        "num_layers": 3,
        "num_pages": num_pages,
        "page_size": 4,
        "page_bytes": 64,
        "fingerprint": "tiny",
    }
    return PoolShape(**{**fields, **changed})
