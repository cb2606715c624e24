"""The spans of a flow from this machine's store, where there is one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from observability.spans import Span
from observability.store import TraceStore
from observability.store_errors import StoreError


def stored_spans(path: Path | None, flow: str) -> list[Span]:
    """None where there is no store, or it does not know the flow. Blocks for milliseconds: call it
    off the event loop."""
    if path is None or not path.exists():
        return []
    with contextlib.suppress(StoreError), contextlib.closing(TraceStore(path)) as store:
        return store.flow(flow)
    return []
