from __future__ import annotations

from itertools import pairwise

import torch

from engine.huge_memory import CHUNK_BYTES, HugeArena, huge_empty


def test_memory_has_the_shape_and_dtype_asked_for_and_can_be_written() -> None:
    memory = huge_empty((3, 1 << 20), torch.float16)

    memory.fill_(2)

    assert (memory.shape, memory.dtype) == ((3, 1 << 20), torch.float16)
    assert memory.sum(dtype=torch.float64) == 6 << 20


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
