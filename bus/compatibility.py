"""Whether two engines can exchange KV: each says at join what its own is like.

Pages of another size are laid out again on the way, and floating-point numbers converted. All else
has to be equal, and a difference is told in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct, to_builtins

from .transfers import PageLayout

NO_TRANSPORT: Final = "none"
CONVERTED: Final = ("float32", "bfloat16", "float16")
FLOAT: Final = "a float"


class Compatibility(Struct, frozen=True, omit_defaults=True):
    """What an engine's KV is like, and how it travels."""

    layout: PageLayout
    num_layers: int
    page_size: int
    protocol: int
    """Version of what engines tell each other about a transfer."""
    transport: str
    """Name and version; `NO_TRANSPORT` where it neither sends nor receives."""

    def kind(self, engine: str) -> str:
        """Equal for engines that can exchange KV, and for no others."""
        if self.transport == NO_TRANSPORT:
            return f"{engine} alone"
        return " ".join(f"{name}={value}" for name, value in _decisive(self))


def differences(engine: str, ours: Compatibility, other: str, theirs: Compatibility) -> list[str]:
    """Why the two cannot exchange KV, naming both; empty where they can."""
    without = [e for e, kv in ((engine, ours), (other, theirs)) if kv.transport == NO_TRANSPORT]
    if without:
        return [f"{name} has no KV transport" for name in without]
    told = [to_builtins(kv.layout) | to_builtins(kv) for kv in (ours, theirs)]
    return [
        f"{name} is {told[0][name]!r} at {engine} and {told[1][name]!r} at {other}"
        for (name, here), (_, there) in zip(_decisive(ours), _decisive(theirs), strict=True)
        if here != there
    ]


def _decisive(kv: Compatibility) -> Iterator[tuple[str, Any]]:
    """What has to be equal."""
    for name, value in to_builtins(kv.layout).items():
        yield name, FLOAT if name == "dtype" and value in CONVERTED else value
    yield "num_layers", kv.num_layers
    yield "protocol", kv.protocol
    yield "transport", kv.transport
