"""Whole pages are moved byte for byte, wherever the pool lies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bus.transfers import PoolShape
from engine.page_memory import HostPageMemory, PageMemory
from engine.torch_pages import TorchPageMemory

SHAPES = [PoolShape(num_layers, 5, 4, 64, "f") for num_layers in (1, 3)]
Make = Callable[[bytearray, PoolShape], PageMemory]


def on_torch(buffer: bytearray, shape: PoolShape) -> PageMemory:
    pool = torch.frombuffer(buffer, dtype=torch.float32)
    return TorchPageMemory(pool.view(shape.num_layers, shape.num_pages, 2, -1))


@pytest.fixture(params=[HostPageMemory, on_torch], ids=["host", "torch"])
def make(request: pytest.FixtureRequest) -> Make:
    chosen: Make = request.param
    return chosen


@pytest.fixture(params=SHAPES, ids=["one layer", "three layers"])
def shape(request: pytest.FixtureRequest) -> PoolShape:
    chosen: PoolShape = request.param
    return chosen


def garbage(shape: PoolShape) -> bytearray:
    """All bit patterns, those of NaN among them."""
    return bytearray(np.random.default_rng(3).bytes(shape.num_bytes))


def page(buffer: bytearray, shape: PoolShape, number: int) -> bytes:
    """As `PoolShape` says, without numpy."""
    begins = [(n * shape.num_pages + number) * shape.page_bytes for n in range(shape.num_layers)]
    return b"".join(buffer[begin : begin + shape.page_bytes] for begin in begins)


def test_copies_read_all_sources_first(make: Make, shape: PoolShape) -> None:
    buffer = garbage(shape)
    before = [page(buffer, shape, number) for number in range(5)]

    make(buffer, shape).copy(np.array([0, 4, 0]), np.array([4, 1, 2]))

    after = [page(buffer, shape, number) for number in range(5)]
    assert after == [before[n] for n in (0, 4, 0, 3, 0)]


def test_a_page_that_was_read_is_kept_whatever_becomes_of_the_pool(
    make: Make, shape: PoolShape
) -> None:
    buffer = garbage(shape)
    before = page(buffer, shape, 3)

    content = make(buffer, shape).read(3)
    buffer[:] = bytes(len(buffer))

    assert content.tobytes() == before


def test_a_page_that_was_put_back_is_what_it_was_and_the_others_stay(
    make: Make, shape: PoolShape
) -> None:
    buffer = garbage(shape)
    before = [page(buffer, shape, number) for number in range(5)]
    memory = make(buffer, shape)

    memory.write(1, memory.read(3))

    assert [page(buffer, shape, n) for n in range(5)] == [before[n] for n in (0, 3, 2, 3, 4)]
