"""What an engine hears besides orders, from those that work for it at their own pace."""

from __future__ import annotations

from typing import TypeAlias

from bus.transfers import TransferEvent

from .constraint import Compiled

News: TypeAlias = TransferEvent | Compiled
"""Of its KV transport, and of its compiler of grammars."""
