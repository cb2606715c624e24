"""The yardstick of memory reads all of it, in every way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.read_bandwidth import AHEAD_BYTES, STREAMS, UNIT_BYTES, read_all, read_gb_per_s
from engine.huge_memory import huge_empty


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("ahead_bytes", AHEAD_BYTES)
def test_every_word_is_read_once(streams: int, ahead_bytes: int) -> None:
    memory = huge_empty((3 * UNIT_BYTES,), torch.uint8)
    words = memory.numpy().view(np.uint64)
    words[:] = np.random.default_rng(1).integers(0, 2**64, len(words), np.uint64)

    found = read_all(memory, streams, ahead_bytes)

    assert found == int(np.bitwise_xor.reduce(words))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_size_that_threads_cannot_share_evenly_is_read_as_far_as_they_can(threads: int) -> None:
    speed = read_gb_per_s(10 * UNIT_BYTES + 7, threads)

    assert 0 < speed < math.inf
