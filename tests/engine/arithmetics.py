"""The arithmetics of the network, for tests that hold for each."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from engine.arithmetic import Arithmetic
from engine.backend import Weights
from engine.invariant_arithmetic import InvariantArithmetic
from engine.kernel_build import built
from engine.kernels import Kernels
from engine.native_arithmetic import NativeArithmetic
from engine.torch_arithmetic import TorchArithmetic

CACHE = Path(tempfile.gettempdir()) / "microserve-test-kernels"
"""Kept between runs, as a user's cache is: a library has the hash of what it was made of."""


@functools.cache
def kernels(threads: int = 1) -> Kernels:
    return Kernels(built(CACHE), threads)


def native(weights: Weights = "float32", threads: int = 1) -> NativeArithmetic:
    return NativeArithmetic(kernels(threads), weights)


def by_torch() -> TorchArithmetic:
    return TorchArithmetic(torch.device("cpu"), torch.float32)


def invariant(threads: int = 1) -> InvariantArithmetic:
    torch.set_num_threads(threads)
    return InvariantArithmetic(torch.device("cpu"), torch.float32)


ARITHMETICS: dict[str, Callable[[], Arithmetic]] = {
    "torch": by_torch,
    "invariant": invariant,
    "native": native,
}
INVARIANT: dict[str, Callable[[int], Arithmetic]] = {
    "invariant": invariant,
    "native": lambda threads: native(threads=threads),
}
"""Those that make the same tokens in every batch, by the number of threads."""
