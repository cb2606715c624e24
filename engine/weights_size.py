"""How many numbers a model's weights are, read from the headers of its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from .model_errors import BrokenModel

MAX_HEADER_BYTES = 100 << 20
"""The format's own limit."""


class _Entry(Struct, frozen=True):
    shape: tuple[int, ...] = ()


def num_weights(files: Sequence[Path]) -> int:
    """All elements of all tensors in these safetensors files; no tensor is read.

    Raises:
        BrokenModel: a file is not what its name says.
    """
    return sum(map(_in_file, files))


def _in_file(path: Path) -> int:
    try:
        with path.open("rb") as file:
            num_bytes = int.from_bytes(file.read(8), "little")
            if num_bytes > MAX_HEADER_BYTES:
                raise BrokenModel(path, f"its header would be {num_bytes} bytes long")
            header = msgspec.json.decode(file.read(num_bytes), type=dict[str, _Entry])
    except (OSError, msgspec.DecodeError) as error:
        raise BrokenModel(path, str(error)) from error
    return sum(math.prod(entry.shape) for name, entry in header.items() if name != "__metadata__")
