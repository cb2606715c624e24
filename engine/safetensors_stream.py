"""Write a safetensors file one tensor at a time, so that a model never has to fit in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ALIGNMENT_BYTES = 64
"""Where the tensors begin, so that vector loads from the mapped file are aligned."""


def write_float32(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], NDArray[np.float32]],
) -> None:
    """Write the tensors of ``shapes`` in their order, asking ``read`` for each when it is due.

    The format is https://github.com/huggingface/safetensors#format.
    """
    header = _header(shapes)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name, shape in shapes.items():
            values = read(name)
            assert values.shape == shape, f"{name}: {values.shape} is not {shape}"
            file.write(np.ascontiguousarray(values, dtype="<f4").data)


def _header(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, shape in shapes.items():
        end = begin + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(entries).encode()
    return text.ljust(-(-(len(text) + 8) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES - 8)
