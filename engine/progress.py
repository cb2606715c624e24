"""How far long work has come, for whoever wants to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Told how much is done, and of how much."""

UNSEEN: Final[Progress] = lambda done, of: None  # noqa: E731 - a value, typed as such
