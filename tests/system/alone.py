"""The same engine alone: what every orchestration is compared with."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

from bus.messages import Mailbox, Order, Sampling, StartGenerate
from bus.public import Delta
from bus.tokens import Tokens
from engine.config import EngineConfig
from engine.engine import Engine
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Output
from engine.torch_runner import TorchRunner


class Alone:
    """One engine without a bus, a transport or company. Its prefix cache is never warm: every
    answer is computed by an engine of its own pages."""

    def __init__(self, model: str | None, num_pages: int = 256, cache_dir: Path | None = None):
        torch.set_num_threads(1)
        self.files: ModelFiles = open_model(model, cache_dir=cache_dir)
        self._runner = TorchRunner(self.files, self.files.pool_shape(num_pages, 16))
        self._numbers = itertools.count()

    def answer(self, prompt: Tokens, sampling: Sampling) -> list[int]:
        """The tokens that must follow."""
        detokenizer = self.files.tokenizer().detokenizer
        engine = Engine(EngineConfig("alone", 1), self._runner, detokenizer, None, lambda: 0.0)
        command = StartGenerate("alone", prompt, 0, sampling, Mailbox("x"))
        outcomes = engine.handle(Order(f"f{next(self._numbers)}", 1, "r", command), 0.0)
        while engine.has_work:
            outcomes += engine.step(0.0)
        deltas = [o.message for o in outcomes if isinstance(o, Output)]
        return [t for d in deltas if isinstance(d, Delta) for t in d.tokens]
