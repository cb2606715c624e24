"""Tell large files apart without reading them whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

SAMPLES = 16
SAMPLE_BYTES = 64 * 1024


def sampled_digest(path: Path) -> str:
    """Hex SHA-256 of a file's size and of up to 1 MiB of it, spread evenly from head to tail.

    It finds truncated, replaced and half-written files in a millisecond. It is no proof against
    somebody who changes single bytes on purpose.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    last = max(size - SAMPLE_BYTES, 0)
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        for sample in range(SAMPLES):
            file.seek(last * sample // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
