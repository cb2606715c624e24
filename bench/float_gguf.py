"""The same model in a GGUF file of float32 weights, for engines that read no other folder."""

from __future__ import annotations

import os
from pathlib import Path

import gguf

SKIPPED = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")
"""Fields that the writer makes itself, or that are not true any more."""


def in_float32(source: Path, cache_dir: Path) -> Path:
    """``source`` with all its fields and every tensor dequantised; made once."""
    status = source.stat()
    target = cache_dir / "bench" / f"{source.stem}-{status.st_mtime_ns}.float32.gguf"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")
        _write(gguf.GGUFReader(source), part)
        part.rename(target)
    return target


def _write(reader: gguf.GGUFReader, target: Path) -> None:
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, field in reader.fields.items():
        if name.startswith(SKIPPED):
            continue
        kind, *inner = field.types
        writer.add_key_value(name, field.contents(), kind, sub_type=inner[0] if inner else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
