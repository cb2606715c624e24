"""What is wanted of whoever computes a model. Imports no torch, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

Weights: TypeAlias = Literal["float32", "int8"]


class Backend(Struct, frozen=True):
    """What is wanted of the arithmetic."""

    cache_dir: Path
    """Where compiled kernels are kept."""
    device: str = "cpu"
    dtype: str = "float32"
    weights: Weights = "float32"
    threads: int = 0
    """0 leaves torch's own choice."""
    native: bool = True
    """Kernels, where they can be."""
    invariant: bool = True
    """A token's bits do not depend on what is computed with it. Of kernels they never do."""
