"""The size of a model is known from the headers of its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.model_errors import BrokenModel
from engine.weights_size import num_weights


def test_every_element_of_every_file_counts_once_whatever_its_type(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_file({"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float16)}, one)
    save_file({"c": np.zeros((2, 2, 2), np.float32)}, two, metadata={"format": "pt"})

    assert num_weights([one, two]) == 15 + 7 + 8


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]", b"\x05abc"])
def test_a_file_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)

    with pytest.raises(BrokenModel, match=r"x\.safetensors"):
        num_weights([path])
