"""Opens a model as every actor does: with a bar while a GGUF file is converted the first time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.model_files import NO_ADAPTERS, ModelFiles, open_model

from .progress import bar


def open_files(
    path: str | None, cache_dir: Path, adapters: Mapping[str, Path] = NO_ADAPTERS
) -> ModelFiles:
    """As `open_model`, with its errors."""
    with bar("converting the model") as report:
        return open_model(path, cache_dir=cache_dir, adapters=adapters, progress=report)
