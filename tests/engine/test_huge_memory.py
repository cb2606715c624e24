from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from engine.huge_memory import CHUNK_BYTES, HugeArena, huge_empty


def test_memory_has_the_shape_and_dtype_asked_for_and_can_be_written() -> None:
    memory = huge_empty((3, 1 << 20), torch.float16)

    memory.fill_(2)

    assert (memory.shape, memory.dtype) == ((3, 1 << 20), torch.float16)
    assert memory.sum(dtype=torch.float64) == 6 << 20


def test_memory_is_private_since_large_pages_of_shared_memory_are_rarely_allowed() -> None:
    memory = huge_empty((4 << 20,), torch.uint8)

    assert permissions(memory) == "rw-p"


def permissions(memory: Tensor) -> str:
    """Of the mapping in which it lies, as the system tells them."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, found, *_ = line.split()
        begin, end = (int(address, 16) for address in addresses.split("-"))
        if begin <= memory.data_ptr() < end:
            return found
    raise AssertionError("it is nowhere")


def test_copies_in_an_arena_are_equal_aligned_and_apart() -> None:
    arena = HugeArena()
    tensors = [
        torch.arange(7, dtype=torch.float32),
        torch.arange(100, dtype=torch.int8).view(4, 25).T,
        torch.ones(CHUNK_BYTES // 4 + 5),
        torch.zeros(3, 3),
    ]

    copies = [arena.copied(tensor) for tensor in tensors]

    for tensor, copy in zip(tensors, copies, strict=True):
        assert torch.equal(tensor, copy)
        assert copy.is_contiguous()
        assert copy.data_ptr() % 64 == 0
    ends = sorted((copy.data_ptr(), copy.data_ptr() + copy.nbytes) for copy in copies)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
