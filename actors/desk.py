"""What a router or a gateway knows of a model: its tokenizer and its limits, not its weights."""

from __future__ import annotations

from engine.model_files import ModelFiles
from orchestrations.registry import policies, strategies

from .intake import Limits
from .router import Desk


def open_desk(files: ModelFiles) -> Desk:
    config = files.config
    known = tuple(sorted({*strategies(), *policies()}))
    return Desk(files.tokenizer(), Limits(config.max_context, config.vocab_size, known))
