"""What a model's weights take is known from the headers of its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor

from engine.backend import Backend, Weights
from engine.model_errors import BrokenModel
from engine.model_files import ADAPTER_WEIGHTS, open_model
from engine.native_arithmetic import PACKINGS, NativeArithmetic, NativeLinear, NativeNorm
from engine.packing import Packed
from engine.torch_runner import TorchRunner
from engine.weights_size import panels_bytes, weight_shapes, weights_bytes

from .arithmetics import CACHE, kernels
from .checkpoints import tiny_checkpoint
from .test_lora import tiny_adapter

KERNELS = Backend(CACHE)


def bytes_of(packed: Packed) -> int:
    return packed.panels.nbytes + (0 if packed.scales is None else packed.scales.nbytes)


def test_the_shapes_of_all_files_are_read(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_file({"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float16)}, one)
    save_file({"c": np.zeros((2, 2, 2), np.float32)}, two, metadata={"format": "pt"})

    assert weight_shapes([one, two]) == {"a": (3, 5), "b": (7,), "c": (2, 2, 2)}


@settings(max_examples=30, deadline=None)
@given(
    size_out=st.integers(1, 70),
    size_in=st.integers(1, 140),
    weights=st.sampled_from(["float32", "int8"]),
)
def test_panels_take_what_they_are_said_to(size_out: int, size_in: int, weights: Weights) -> None:
    packed = PACKINGS[weights](torch.ones(size_out, size_in))

    assert panels_bytes(size_out, size_in, weights) == bytes_of(packed)


class Counting(NativeArithmetic):
    """Adds up what it is given to keep."""

    num_bytes = 0

    def linear(self, weight: Tensor, bias: Tensor | None) -> NativeLinear:
        made = super().linear(weight, bias)
        self.num_bytes += sum(bytes_of(layer.weight) for layer in made.layer.layers)
        self.num_bytes += 0 if bias is None else bias.nbytes
        return made

    def norm(self, weight: Tensor, epsilon: float) -> NativeNorm:
        self.num_bytes += weight.nbytes
        return super().norm(weight, epsilon)


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("family", ["llama", "llama2", "qwen2"])
def test_of_kernels_it_is_the_embedding_and_what_they_keep(
    family: str, weights: Weights, tmp_path: Path
) -> None:
    files = open_model(str(tiny_checkpoint(tmp_path, family)))
    kept = Counting(kernels(), weights)
    TorchRunner(files, files.pool_shape(1, 16, weights=weights), arithmetic=kept)

    found = weights_bytes(files, replace(KERNELS, weights=weights))

    embedding = files.config.vocab_size * files.config.hidden_size * 4
    assert found == kept.num_bytes + embedding


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_what_adapters_add_is_counted_as_it_is_kept(weights: Weights, tmp_path: Path) -> None:
    folder = str(tiny_checkpoint(tmp_path / "model"))
    adapters = {name: tiny_adapter(tmp_path / name, seed=1) for name in ("one", "two")}
    files = open_model(folder, adapters=adapters)
    kept = Counting(kernels(), weights)
    runner = TorchRunner(files, files.pool_shape(1, 16, weights=weights), arithmetic=kept)
    backend = replace(KERNELS, weights=weights)

    found = weights_bytes(files, backend)

    embedding = files.config.vocab_size * files.config.hidden_size * 4
    assert found == kept.num_bytes + embedding
    assert found > weights_bytes(open_model(folder), backend)
    assert not any(runner._adapters._modules.values()), "a weight is kept twice"


def test_of_torch_adapters_take_every_weight_once(tmp_path: Path) -> None:
    folder = str(tiny_checkpoint(tmp_path / "model"))
    adapter = tiny_adapter(tmp_path / "one", seed=1)
    num_weights = sum(t.numel() for t in load_file(adapter / ADAPTER_WEIGHTS).values())
    backend = replace(KERNELS, dtype="bfloat16")

    without, with_it = (
        weights_bytes(open_model(folder, adapters=adapters), backend)
        for adapters in ({}, {"one": adapter})
    )

    assert with_it - without == 2 * num_weights


def test_of_torch_it_is_every_weight_once_in_its_type(tmp_path: Path) -> None:
    files = open_model(str(tiny_checkpoint(tmp_path, "llama")))
    num_weights = sum(tensor.numel() for tensor in load_file(files.weights[0]).values())

    for backend, size in (
        (replace(KERNELS, native=False), 4),
        (replace(KERNELS, dtype="bfloat16"), 2),
    ):
        assert weights_bytes(files, backend) == size * num_weights


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]", b"\x05abc"])
def test_a_file_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)

    with pytest.raises(BrokenModel, match=r"x\.safetensors"):
        weight_shapes([path])
