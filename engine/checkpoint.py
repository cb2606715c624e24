"""Take tensors out of safetensors files, checked, and notice what nobody took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .model_errors import BrokenModel, UnsupportedModel
from .progress import UNSEEN, Progress

HARMLESS = (".rotary_emb.inv_freq",)
"""Tensors that old checkpoints hold although they are computed."""


class Checkpoint:
    """The weights of a model in one or several files.

    Files are memory-mapped: tensors that need no conversion stay on disk's pages, which all
    processes of a machine share. ``progress`` is told before each tensor how many were taken, of
    how many, and when all were: whoever takes one does the work on it before he takes the next.

    Raises:
        BrokenModel: a file is damaged.
    """

    def __init__(
        self,
        files: Sequence[Path],
        dtype: torch.dtype,
        device: torch.device,
        progress: Progress = UNSEEN,
    ) -> None:
        self._dtype, self._device, self._progress = dtype, device, progress
        self._files: dict[str, tuple[Path, Any]] = {}
        for path in files:
            opened = _open(path)
            self._files.update(dict.fromkeys(opened.keys(), (path, opened)))
        self._where = files[0].parent
        self._left = set(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor in the runner's dtype, on its device.

        Raises:
            BrokenModel: it is missing or of another shape.
        """
        if name not in self._files:
            raise BrokenModel(self._where, f"tensor {name} is missing")
        path, opened = self._files[name]
        self._progress(len(self._files) - len(self._left), len(self._files))
        self._left.discard(name)
        tensor: Tensor = opened.get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise BrokenModel(path, f"tensor {name} is {tuple(tensor.shape)}, config says {shape}")
        return tensor.to(self._device, self._dtype)

    def ignore(self, name: str) -> None:
        """Say that a tensor is rightly not taken."""
        self._left.discard(name)

    def check_all_taken(self) -> None:
        """A weight that nobody wanted belongs to a network that is not the one computed here.

        Raises:
            UnsupportedModel: naming one of them.
        """
        left = sorted(name for name in self._left if not name.endswith(HARMLESS))
        if left:
            raise UnsupportedModel("tensor", left[0], _without_layers(set(self._files) - set(left)))
        self._progress(len(self._files), len(self._files))


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise BrokenModel(path, str(error)) from error


def _without_layers(names: Iterable[str]) -> list[str]:
    return sorted(
        {".".join("N" if part.isdigit() else part for part in name.split(".")) for name in names}
    )
