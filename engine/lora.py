"""Low-rank adapters: small additions to a model's weights, chosen by each request.

Hu et al., "LoRA" (arXiv 2106.09685): beside a linear layer's ``W x`` comes ``scale * B (A x)``,
with ``A`` and ``B`` of few rows and columns. Rows with different adapters, or none, share a batch:
``W x`` is computed for all of them at once, the rest for each adapter's tokens together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .arithmetic import Linear
from .model_errors import BrokenModel, UnsupportedModel
from .model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from .runner import Row

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")


class _Config(Struct, frozen=True):
    """The part of PEFT's adapter_config.json that decides how to compute."""

    peft_type: str
    lora_alpha: float
    use_rslora: bool = False
    alpha_pattern: dict[str, float] | None = None
    bias: str = "none"
    use_dora: bool = False
    fan_in_fan_out: bool = False
    modules_to_save: tuple[str, ...] | None = None
    layer_replication: list[Any] | None = None

    def scale(self, module: str, rank: int) -> float:
        alpha = self.lora_alpha
        for pattern, special in (self.alpha_pattern or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                alpha = special
        return alpha / (rank**0.5 if self.use_rslora else rank)


class LowRank(Struct, frozen=True):
    """``down`` is ``[rank, in]``, ``up`` is ``[out, rank]`` and has the scale in it."""

    down: Tensor
    up: Tensor


def read_adapter(folder: Path, like: Tensor) -> dict[str, LowRank]:
    """A PEFT folder, by the names of the modules that it adds to, in dtype and on device of
    ``like``.

    Raises:
        BrokenModel: a file is missing or damaged, or a module has one half of its weights only.
        UnsupportedModel: it is not plain LoRA on the linear layers of attention and feed-forward.
    """
    config = _read_config(folder / ADAPTER_CONFIG)
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _read_weights(folder / ADAPTER_WEIGHTS).items():
        found = _TENSOR.fullmatch(name)
        if found is None or found["module"].split(".")[-1] not in PROJECTIONS:
            raise UnsupportedModel(f"tensor of adapter {folder.name}", name, PROJECTIONS)
        halves.setdefault(found["module"], {})[found["part"]] = tensor.to(like)
    return {module: _low_rank(folder, config, module, pair) for module, pair in halves.items()}


class Adapters:
    """All adapters of one runner, and which tokens of the batch at hand want which.

    Raises:
        BrokenModel, UnsupportedModel: one of them cannot be used.
    """

    def __init__(
        self, folders: Mapping[str, Path], like: Tensor, linear: Callable[[Tensor], Linear]
    ) -> None:
        """``linear`` makes a layer of its weight, ``[out, in]``: what adapters add is computed by
        the same arithmetic as everything else."""
        self._modules = {name: read_adapter(folder, like) for name, folder in folders.items()}
        # Each leaves when its layer is made, which may be of a copy: nothing is kept twice.
        self._folders, self._device, self._linear = folders, like.device, linear
        self.wanted: list[tuple[str, Tensor]] = []
        """Adapters of the batch, each with the places of its tokens."""

    def wrap(self, module: str, linear: Linear, shape: tuple[int, int]) -> Linear:
        """The layer called ``module``, of ``[out, in]`` weights, with what adapters add to it.

        Raises:
            BrokenModel: an adapter's weights are of another size.
        """
        adding = {
            name: self._pair(name, module, modules.pop(module), shape)
            for name, modules in self._modules.items()
            if module in modules
        }
        return Adapted(linear, adding, self) if adding else linear

    def _pair(
        self, name: str, module: str, low_rank: LowRank, shape: tuple[int, int]
    ) -> tuple[Linear, Linear]:
        given = (low_rank.up.shape[0], low_rank.down.shape[1])
        if given != shape:
            raise BrokenModel(
                self._folders[name], f"{module} is {shape}, the adapter is for {given}"
            )
        return self._linear(low_rank.down), self._linear(low_rank.up)

    def check_all_wrapped(self) -> None:
        """
        Raises:
            BrokenModel: an adapter adds to layers that the model does not have.
        """
        for name, modules in self._modules.items():
            if modules:
                raise BrokenModel(self._folders[name], f"the model has no layer {min(modules)}")

    def route(self, rows: Sequence[Row]) -> None:
        """From here on, a batch is computed whose tokens are those of ``rows``."""
        if not self._modules:
            return
        names = np.repeat([row.adapter for row in rows], [len(row.tokens) for row in rows])
        self.wanted = [
            (str(name), torch.from_numpy(np.flatnonzero(names == name)).to(self._device))
            for name in np.unique(names)
            if name
        ]


class Adapted(Struct, frozen=True):
    """A linear layer, and what adapters add to it."""

    linear: Linear
    adding: Mapping[str, tuple[Linear, Linear]]
    adapters: Adapters

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        found = self.linear(x, add)
        for name, places in self.adapters.wanted:
            if name in self.adding:
                down, up = self.adding[name]
                found.index_add_(0, places, up(down(x.index_select(0, places))))
        return found


def _low_rank(folder: Path, config: _Config, module: str, pair: dict[str, Tensor]) -> LowRank:
    if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
        raise BrokenModel(folder, f"{module} needs lora_A and lora_B of one rank")
    scale = config.scale(module, pair["A"].shape[0])
    return LowRank(pair["A"], pair["B"] * scale)


def _read_config(path: Path) -> _Config:
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except (OSError, msgspec.DecodeError) as error:
        raise BrokenModel(path, str(error)) from error
    for what, given, supported in _variants(config):
        if given != supported:
            raise UnsupportedModel(f"{what} of adapter {path.parent.name}", given, [str(supported)])
    return config


def _variants(config: _Config) -> Iterable[tuple[str, object, object]]:
    yield "peft_type", config.peft_type, "LORA"
    yield "bias", config.bias, "none"
    yield "use_dora", config.use_dora, False
    yield "fan_in_fan_out", config.fan_in_fan_out, False
    yield "modules_to_save", config.modules_to_save or None, None
    yield "layer_replication", config.layer_replication or None, None


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BrokenModel(path, str(error)) from error
