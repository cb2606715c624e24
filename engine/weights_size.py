"""How much memory a model's weights take, read from the headers of its files.

What torch computes with is every weight once, in the runner's type. What the kernels compute with
is a copy of every matrix in panels, which may be smaller; the embedding is needed besides, to look
tokens up in it, and is in panels too where the model's last layer is the embedding again. What
adapters add is kept like the rest: all of it, whichever of them are in use. Files are mapped, and
what was copied from them is not read again: it takes no memory for long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from .backend import Backend, Weights
from .kernel_limits import GROUP, LANES, why_torch
from .model_config import ModelConfig
from .model_errors import BrokenModel
from .model_files import ADAPTER_WEIGHTS, DTYPE_BYTES, ModelFiles

Shape: TypeAlias = tuple[int, ...]

MAX_HEADER_BYTES = 100 << 20
"""The format's own limit."""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class _Entry(Struct, frozen=True):
    shape: Shape = ()


def weights_bytes(files: ModelFiles, backend: Backend) -> int:
    """What the weights of a model and its adapters take while ``backend`` computes with them.

    Raises:
        BrokenModel: a file is not what its name says.
    """
    config = files.config
    adapters = (weight_shapes([folder / ADAPTER_WEIGHTS]) for folder in files.adapters.values())
    read = [weight_shapes(files.weights), *adapters]
    shapes = [(name, shape) for tensors in read for name, shape in tensors.items()]
    if why_torch(config, backend):
        return sum(math.prod(shape) for _, shape in shapes) * DTYPE_BYTES[backend.dtype]
    return sum(_by_kernels(name, shape, config, backend) for name, shape in shapes)


def panels_bytes(size_out: int, size_in: int, weights: Weights) -> int:
    """A matrix as `engine.packing` packs it."""
    columns = size_out + -size_out % LANES
    if weights == "float32":
        return 4 * columns * size_in
    return columns * (size_in + -size_in % 4 + 4 * math.ceil(size_in / GROUP))


def weight_shapes(files: Sequence[Path]) -> Mapping[str, Shape]:
    """Of all tensors in these safetensors files; no tensor is read.

    Raises:
        BrokenModel: a file is not what its name says.
    """
    return {name: shape for path in files for name, shape in _in_file(path).items()}


def _by_kernels(name: str, shape: Shape, config: ModelConfig, backend: Backend) -> int:
    if name == HEAD and config.tied_embeddings:
        return 0
    as_it_is = 4 * math.prod(shape)
    if len(shape) != 2:
        return as_it_is
    size_out, size_in = shape
    panels = panels_bytes(size_out, size_in, backend.weights)
    if name == EMBEDDING:
        return as_it_is + (panels if config.tied_embeddings else 0)
    return panels


def _in_file(path: Path) -> Mapping[str, Shape]:
    try:
        with path.open("rb") as file:
            num_bytes = int.from_bytes(file.read(8), "little")
            if num_bytes > MAX_HEADER_BYTES:
                raise BrokenModel(path, f"its header would be {num_bytes} bytes long")
            header = msgspec.json.decode(file.read(num_bytes), type=dict[str, _Entry])
    except (OSError, msgspec.DecodeError) as error:
        raise BrokenModel(path, str(error)) from error
    return {name: entry.shape for name, entry in header.items() if name != "__metadata__"}
