"""Open whoever computes: our own kernels where they can, torch everywhere else."""

from __future__ import annotations

import logging

import torch

from .arithmetic import Arithmetic
from .backend import Backend
from .dtypes import DTYPES
from .invariant_arithmetic import InvariantArithmetic
from .kernel_build import NoKernels, built
from .kernel_limits import why_torch
from .kernels import Kernels
from .model_config import ModelConfig
from .native_arithmetic import NativeArithmetic
from .torch_arithmetic import TorchArithmetic

logger = logging.getLogger(__name__)


def open_arithmetic(config: ModelConfig, backend: Backend) -> Arithmetic:
    """Our kernels, compiled on first use, or torch and one line in the log that says why.

    Sets the threads of torch: one where the kernels compute, who have their own.

    Raises:
        NoKernels: weights are wanted that only kernels compute with, and there are none.
    """
    threads = backend.threads or torch.get_num_threads()
    try:
        kernels = _kernels(config, backend, threads)
    except NoKernels as reason:
        if backend.weights != "float32":
            raise NoKernels(f"{backend.weights} weights need native kernels: {reason}") from None
        logger.warning("computing by torch, without native kernels: %s", reason)
        torch.set_num_threads(threads)
        device, dtype = torch.device(backend.device), DTYPES[backend.dtype]
        by_torch = InvariantArithmetic if backend.invariant else TorchArithmetic
        return by_torch(device, dtype)
    torch.set_num_threads(1)
    return NativeArithmetic(kernels, backend.weights)


def _kernels(config: ModelConfig, backend: Backend, threads: int) -> Kernels:
    if why := why_torch(config, backend):
        raise NoKernels(why)
    return Kernels(built(backend.cache_dir), threads)
