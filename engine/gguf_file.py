"""Read a GGUF file: its metadata as Python values, its tensors as bytes where they lie.

The format is llama.cpp's (ggml/docs/gguf.md). The ``gguf`` package has a reader too; it makes a
NumPy array of every string, which takes seconds for a vocabulary, so it serves only to dequantise.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from .model_errors import BrokenModel, UnsupportedModel

MAGIC = b"GGUF"
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4

Floats: TypeAlias = NDArray[np.float32]


class TensorInfo(Struct, frozen=True):
    """Where one tensor lies. ``shape`` is in row-major order, the contiguous axis last."""

    name: str
    shape: tuple[int, ...]
    kind: int
    """The number of its type in GGML."""
    offset: int
    """Bytes from the beginning of the tensor data."""


class GgufFile:
    """An open GGUF file, memory-mapped. Closes itself when the last tensor's bytes are gone.

    Raises:
        BrokenModel: it is not a GGUF file, or ends too early.
        UnsupportedModel: its version is not read here.
    """

    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise BrokenModel(path, f"cannot be read: {error}") from error
        cursor = _Cursor(path, self._bytes)
        num_tensors, num_fields = _read_header(cursor)
        self.metadata = dict(_read_field(cursor) for _ in range(num_fields))
        infos = [_read_tensor_info(cursor) for _ in range(num_tensors)]
        self.tensors = {info.name: info for info in infos}
        self._data_begin = _aligned(cursor.at, self._alignment())

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise BrokenModel(self.path, f"general.alignment is {alignment!r}")
        return alignment

    def dequantised(self, name: str) -> Floats:
        """One tensor as float32 in its own shape.

        Raises:
            BrokenModel: there is no such tensor, or the file ends before it does.
            UnsupportedModel: it is of a type that cannot be dequantised here.
        """
        # Imported here because it takes 0.4 s, and a converted model never comes this way.
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        info = self._info(name)
        try:
            kind = GGMLQuantizationType(info.kind)
            block_values, block_bytes = GGML_QUANT_SIZES[kind]
            row_bytes = info.shape[-1] // block_values * block_bytes
            values = dequantize(self._rows(info, row_bytes), kind)
        except (KeyError, ValueError, NotImplementedError) as error:
            supported = ["F32", "F16", "BF16", "the quantised types of the gguf package"]
            raise UnsupportedModel(f"type of tensor {name}", info.kind, supported) from error
        return np.ascontiguousarray(values, dtype=np.float32).reshape(info.shape)

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises BrokenModel where there is no such tensor."""
        return self._info(name).shape

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise BrokenModel(self.path, f"tensor {name} is missing")
        return self.tensors[name]

    def _rows(self, info: TensorInfo, row_bytes: int) -> NDArray[np.uint8]:
        num_rows = math.prod(info.shape[:-1])
        begin = self._data_begin + info.offset
        end = begin + num_rows * row_bytes
        if end > len(self._bytes):
            raise BrokenModel(
                self.path,
                f"truncated: tensor {info.name} ends at byte {end} of {len(self._bytes)}",
            )
        flat = np.frombuffer(self._bytes[begin:end], dtype=np.uint8)
        return flat.reshape(num_rows, row_bytes)


class _Cursor:
    """A place in the file that moves forward as values are read."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, num_bytes: int) -> memoryview:
        end = self.at + num_bytes
        if end > len(self.data):
            raise BrokenModel(self.path, f"truncated: wants byte {end} of {len(self.data)}")
        taken, self.at = self.data[self.at : end], end
        return taken

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        data = self.take(count * struct.calcsize(f"<{code}"))
        return struct.unpack(f"<{count}{code}", data)

    def text(self) -> str:
        (num_bytes,) = self.numbers("Q")
        try:
            return str(self.take(num_bytes), "utf-8")
        except UnicodeDecodeError as error:
            raise BrokenModel(self.path, f"a string is not UTF-8: {error}") from error

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._array(*self.numbers("I"), *self.numbers("Q"))
        return self._scalars(kind, 1)[0]

    def _array(self, kind: int, count: int) -> list[Any]:
        if kind == STRING:
            return [self.text() for _ in range(count)]
        return list(self._scalars(kind, count))

    def _scalars(self, kind: int, count: int) -> tuple[Any, ...]:
        if kind not in SCALARS:
            raise BrokenModel(self.path, f"unknown metadata type {kind}")
        return self.numbers(SCALARS[kind], count)


def _read_header(cursor: _Cursor) -> tuple[int, int]:
    if bytes(cursor.take(4)) != MAGIC:
        raise BrokenModel(cursor.path, "not a GGUF file")
    (version,) = cursor.numbers("I")
    if version not in (2, 3):
        raise UnsupportedModel("GGUF version", version, ["2", "3", "little-endian only"])
    num_tensors, num_fields = cursor.numbers("Q", 2)
    return num_tensors, num_fields


def _read_field(cursor: _Cursor) -> tuple[str, Any]:
    name = cursor.text()
    (kind,) = cursor.numbers("I")
    return name, cursor.value(kind)


def _read_tensor_info(cursor: _Cursor) -> TensorInfo:
    name = cursor.text()
    (num_dimensions,) = cursor.numbers("I")
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise BrokenModel(cursor.path, f"tensor {name} has {num_dimensions} dimensions")
    shape = cursor.numbers("Q", num_dimensions)[::-1]
    (kind,) = cursor.numbers("I")
    (offset,) = cursor.numbers("Q")
    return TensorInfo(name, shape, kind, offset)


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
