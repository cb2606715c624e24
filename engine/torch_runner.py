"""One model on one torch device with its KV pool: the real `Runner`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bus.transfers import PoolShape

from .arithmetic import Arithmetic, Attending, Linear, Paging
from .checkpoint import Checkpoint
from .decoder import load_decoder
from .dtypes import DTYPES
from .huge_memory import huge_empty
from .lora import Adapters
from .model_files import ModelFiles
from .progress import UNSEEN, Progress
from .ragged import asked_of
from .rope import inverse_frequencies
from .runner import Found, ModelCard, OnLayer, Row
from .sampler import choose
from .torch_arithmetic import TorchArithmetic
from .torch_pages import TorchPageMemory

Buffer: TypeAlias = Any
"""Writable memory with the buffer protocol (which Python 3.11 cannot spell as a type)."""


class TorchRunner:
    """Runs batches on one device. Not thread-safe: one thread at a time.

    The pool is the caller's ``buffer``, kept alive as long as this is, or is allocated here.
    Pages need no initial contents: a row's result depends on nothing outside its own context.

    Raises:
        ModelError: the weights cannot be loaded.
        ValueError: shape, dtype and buffer do not fit together.
    """

    def __init__(
        self,
        files: ModelFiles,
        shape: PoolShape,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        buffer: Buffer | None = None,
        arithmetic: Arithmetic | None = None,
        progress: Progress = UNSEEN,
    ) -> None:
        """``arithmetic`` computes, torch where None; another one knows its device and dtype.
        ``progress`` hears how many weights are loaded."""
        self._device = torch.device(device)
        self._arithmetic = arithmetic or TorchArithmetic(self._device, DTYPES[dtype])
        expected = files.pool_shape(
            shape.num_pages, shape.page_size, dtype, self._arithmetic.weights
        )
        if shape != expected:
            raise ValueError(f"the pool of this model in {dtype} is {expected}, not {shape}")
        self.pool = self._open_pool(files, shape, DTYPES[dtype], buffer)
        """``[num_layers, num_pages, 2, page_size, num_kv_heads, head_dim]``: keys, then values."""
        self.page_memory = TorchPageMemory(self.pool)
        self._caches = list(self.pool.flatten(1, 3).flatten(2))
        checkpoint = Checkpoint(files.weights, DTYPES[dtype], self._device, progress)
        self._adapters = Adapters(files.adapters, self.pool[:0], self._plain)
        self._decoder = load_decoder(files.config, checkpoint, self._arithmetic, self._adapters)
        frequencies = inverse_frequencies(files.config).to(self._device)
        self._paging = Paging(shape.page_size, frequencies)
        self._card = _card(files, shape)

    @property
    def card(self) -> ModelCard:
        return self._card

    @torch.inference_mode()
    def run(self, rows: list[Row], on_layer: OnLayer | None = None) -> list[tuple[Found, ...]]:
        """See `Runner.run`. No rows give no results."""
        if not rows:
            return []
        choices = [choice for row in rows for choice in row.choices]
        logits = self._forward(rows, on_layer)
        chosen = iter(choose(logits, choices, self._arithmetic.shortlists) if choices else ())
        return [tuple(islice(chosen, len(row.choices))) for row in rows]

    @torch.inference_mode()
    def logits(self, rows: list[Row]) -> Tensor:
        """As `run`, but the float32 logits ``[choices, vocab_size]`` themselves."""
        return self._forward(rows, None)

    def _plain(self, weight: Tensor) -> Linear:
        return self._arithmetic.linear(weight, None)

    def _forward(self, rows: list[Row], on_layer: OnLayer | None) -> Tensor:
        paged = self._paged(rows)
        tokens = torch.from_numpy(paged.batch.tokens).to(self._device)
        left = self._decoder.fill(tokens, paged, self._caches, self._telling(on_layer))
        if not len(paged.batch.ends):
            return left.x.new_empty((0, self._card.vocab_size), dtype=torch.float32)
        if len(paged.batch.ends) < len(tokens):
            left = left.select(torch.from_numpy(paged.batch.ends).to(self._device))
            paged = self._paged(asked_of(rows))
        return self._decoder.finish(left, paged, self._caches[-1])

    def _paged(self, rows: Sequence[Row]) -> Attending:
        """From here on, the tokens of these rows are computed."""
        self._adapters.route(rows)
        return self._arithmetic.attention(rows, self._paging)

    def _telling(self, on_layer: OnLayer | None) -> OnLayer:
        if on_layer is None:
            return lambda layer: None
        if self._device.type == "cpu":
            return on_layer

        def tell(layer: int) -> None:
            # The device runs behind the host: wait until the pages are really written.
            torch.accelerator.synchronize(self._device)
            on_layer(layer)

        return tell

    def _open_pool(
        self, files: ModelFiles, shape: PoolShape, dtype: torch.dtype, buffer: Buffer | None
    ) -> Tensor:
        config = files.config
        page = (2, shape.page_size, config.num_kv_heads, config.head_dim)
        sizes = (shape.num_layers, shape.num_pages, *page)
        if buffer is None and self._device.type == "cpu":
            return huge_empty(sizes, dtype)
        if buffer is None:
            return torch.empty(sizes, dtype=dtype, device=self._device)
        if self._device.type != "cpu":
            raise ValueError(f"a buffer is memory of the CPU, the device is {self._device}")
        with memoryview(buffer) as view:
            if view.nbytes != shape.num_bytes or view.readonly:
                raise ValueError(
                    f"the pool needs {shape.num_bytes} writable bytes, the buffer has {view.nbytes}"
                    f"{' read-only ones' if view.readonly else ''}"
                )
        return torch.frombuffer(buffer, dtype=dtype).view(sizes)


def _card(files: ModelFiles, shape: PoolShape) -> ModelCard:
    return ModelCard(
        name=files.name,
        vocab_size=files.config.vocab_size,
        max_context=files.config.max_context,
        end_tokens=files.tokenizer().end_tokens,
        shape=shape,
        adapters=tuple(sorted(files.adapters)),
    )
