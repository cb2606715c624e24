"""The kernels against torch, and against themselves in other batches, cuts, threads and widths."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from engine.kernel_build import built
from engine.kernel_jobs import Layer, Layers, Runs
from engine.kernels import Kernels
from engine.packing import Packed, packed, packed_int8, unpacked

from .arithmetics import CACHE, kernels

PAGE_SIZES = (1, 5, 16)

sizes = st.integers(1, 70)
seeds = st.integers(0, 2**31)
a_few = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def narrow() -> Kernels:
    """As a processor with vectors of half the width computes."""
    wide = "-mno-avx512f" if "avx512f" in Path("/proc/cpuinfo").read_text() else ""
    return Kernels(built(CACHE, compiler=f"cc {wide}"), 1)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one(weight: Packed, bias: Tensor | None = None) -> Layers:
    return Layers(Layer(weight, bias))


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


# --- products -----------------------------------------------------------------------------------


@a_few
@given(rows=st.integers(1, 220), size_in=sizes, size_out=sizes, biased=st.booleans(), seed=seeds)
def test_a_product_is_that_of_torch(
    rows: int, size_in: int, size_out: int, biased: bool, seed: int
) -> None:
    x, weight = numbers(seed, rows, size_in), numbers(seed + 1, size_out, size_in)
    bias = numbers(seed + 2, size_out) if biased else None
    there = numbers(seed + 3, rows, size_out)

    found = kernels(2).linear(x, one(packed(weight), bias))
    added = kernels(2).linear(x, one(packed(weight), bias), there.clone())

    assert_close(found, linear(x, weight, bias))
    assert_close(added, there + linear(x, weight, bias))


@a_few
@given(rows=st.integers(1, 220), size_in=sizes, sizes_out=st.lists(sizes, min_size=1), seed=seeds)
def test_layers_together_are_each_of_them_alone(
    rows: int, size_in: int, sizes_out: list[int], seed: int
) -> None:
    x = numbers(seed, rows, size_in)
    layers = [
        Layer((packed, packed_int8)[i % 2](numbers(seed + i, size, size_in)), numbers(i, size))
        for i, size in enumerate(sizes_out)
    ]

    together = kernels(3).linears(x, Layers(*layers))

    for found, layer in zip(together, layers, strict=True):
        assert torch.equal(found, kernels().linear(x, Layers(layer)))


@a_few
@given(size_in=st.integers(1, 300), size_out=sizes, seed=seeds)
def test_quantised_weights_are_near_and_compute_as_their_rounded_values(
    size_in: int, size_out: int, seed: int
) -> None:
    x, weight = numbers(seed, 9, size_in), numbers(seed + 1, size_out, size_in)
    small = packed_int8(weight)

    rounded = unpacked(small)

    assert (rounded - weight).abs().max() <= weight.abs().max() / 254 * 1.001
    found = kernels().linear(x, one(small))
    assert torch.equal(found, kernels().linear(x, one(packed(rounded))))
    assert torch.equal(unpacked(packed(weight)), weight)


def test_weights_that_are_all_zero_stay_so() -> None:
    assert not unpacked(packed_int8(torch.zeros(3, 64))).any()


# --- rows of numbers ----------------------------------------------------------------------------


@a_few
@given(rows=st.integers(1, 50), size=sizes, seed=seeds)
def test_a_norm_is_that_of_torch(rows: int, size: int, seed: int) -> None:
    x, weight = numbers(seed, rows, size), numbers(seed + 1, size)

    assert_close(kernels(2).norm(x, weight, 1e-5), rms_norm(x, (size,), weight, 1e-5))


@a_few
@given(rows=st.integers(1, 200), size=sizes, seed=seeds)
def test_a_gate_is_that_of_torch(rows: int, size: int, seed: int) -> None:
    gate, up = 20 * numbers(seed, rows, size), numbers(seed + 1, rows, size)

    assert_close(kernels(2).gated(gate.clone(), up), silu(gate) * up)


def test_a_gate_survives_the_largest_and_smallest_numbers() -> None:
    gate = torch.tensor([-1e38, -150.0, -104.0, -87.5, 0.0, 87.5, 150.0, 1e38])

    found = kernels().gated(gate.clone()[None], torch.ones(1, 8))[0]

    torch.testing.assert_close(found, silu(gate.double()).float(), rtol=1e-6, atol=1e-35)


# --- attention ----------------------------------------------------------------------------------


class Sequences:
    """Some sequences over random pages of a pool that is NaN where nothing was written."""

    def __init__(self, lengths: list[int], page_size: int, heads: tuple[int, int, int]) -> None:
        self.lengths, self.page_size = lengths, page_size
        self.num_heads, self.num_kv_heads, self.head_dim = heads
        self.num_pages = sum(-(-length // page_size) for length in lengths)
        self.queries = [numbers(i, n, heads[0], heads[2]) for i, n in enumerate(lengths)]
        self.keys = [numbers(100 + i, n, heads[1], heads[2]) for i, n in enumerate(lengths)]
        self.values = [numbers(200 + i, n, heads[1], heads[2]) for i, n in enumerate(lengths)]
        free = np.random.default_rng(len(lengths)).permutation(self.num_pages).astype(np.int32)
        ends = np.cumsum([-(-length // page_size) for length in lengths])
        self.tables = np.split(free, ends[:-1])
        slots = self.num_pages * 2 * page_size
        self.cache = torch.full((slots, heads[1] * heads[2]), float("nan"))

    def runs(self, parts: list[tuple[int, int, int]]) -> Runs:
        """Of (sequence, begin, end)."""
        counts = np.array([end - begin for _, begin, end in parts], np.int64)
        tables = [self.tables[i] for i, _, _ in parts]
        lengths = np.array([len(table) for table in tables], np.int64)
        return Runs(
            begins=counts.cumsum() - counts,
            counts=counts,
            positions=np.array([begin for _, begin, _ in parts], np.int64),
            tables=lengths.cumsum() - lengths,
            pages=np.concatenate(tables),
            slots=np.concatenate([self._slots(*part) for part in parts]),
            page_size=self.page_size,
        )

    def _slots(
        self, index: int, begin: int, end: int
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        page, offset = np.divmod(np.arange(begin, end), self.page_size)
        return self.tables[index][page].astype(np.int64) * 2 * self.page_size + offset

    def compute(
        self, kernels: Kernels, parts: list[tuple[int, int, int]], window: int | None = None
    ) -> list[Tensor]:
        """Write and attend these parts in one batch; nothing is turned."""
        runs = self.runs(parts)
        heads = tuple(
            torch.cat([tensors[i][begin:end] for i, begin, end in parts])
            for tensors in (self.queries, self.keys, self.values)
        )
        angles = torch.zeros(len(heads[0]), self.head_dim // 2)
        turn = (angles.cos(), angles.sin())
        kernels.write(self.cache, (heads[0], heads[1], heads[2]), turn, runs)
        found = kernels.attend(self.cache, heads[0], self.num_kv_heads, window, runs)
        return list(torch.split(found, runs.counts.tolist()))

    def reference(self, index: int, window: int | None) -> Tensor:
        """All of one sequence, in float64."""
        length = self.lengths[index]
        group = self.num_heads // self.num_kv_heads
        queries = self.queries[index].double().transpose(0, 1)
        keys = self.keys[index].double().repeat_interleave(group, 1).transpose(0, 1)
        values = self.values[index].double().repeat_interleave(group, 1).transpose(0, 1)
        sees = torch.ones(length, length, dtype=torch.bool).tril()
        if window:
            sees = sees.triu(1 - window)
        scores = (queries @ keys.transpose(1, 2)) / self.head_dim**0.5
        weights: Tensor = scores.masked_fill(~sees, -torch.inf).softmax(-1)
        found: Tensor = weights @ values
        return found.transpose(0, 1).float()


def cuts(length: int, seed: int) -> list[tuple[int, int]]:
    """A sequence in random parts: many of one token, some long."""
    random, begin, parts = np.random.default_rng(seed), 0, []
    while begin < length:
        end = min(length, begin + int(random.choice([1, 1, 2, 7, 40, 300, 1000])))
        parts.append((begin, end))
        begin = end
    return parts


heads_of = st.sampled_from([(2, 2, 16), (6, 2, 32), (9, 3, 64), (8, 1, 48), (4, 2, 112)])
windows = st.one_of(st.none(), st.integers(1, 700))


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60) | st.integers(500, 1100), min_size=1, max_size=4),
    page_size=st.sampled_from(PAGE_SIZES),
    heads=heads_of,
    window=windows,
    seed=seeds,
)
def test_attention_is_that_of_torch_and_the_same_however_it_is_cut(
    lengths: list[int], page_size: int, heads: tuple[int, int, int], window: int | None, seed: int
) -> None:
    sequences = Sequences(lengths, page_size, heads)
    whole = sequences.compute(kernels(2), [(i, 0, n) for i, n in enumerate(lengths)], window)

    again = Sequences(lengths, page_size, heads)
    parts = [cuts(length, seed + i) for i, length in enumerate(lengths)]
    found: list[list[Tensor]] = [[] for _ in lengths]
    while any(parts):  # a round takes one part of every sequence that is not over
        batch = [(i, *left.pop(0)) for i, left in enumerate(parts) if left]
        for (i, _, _), some in zip(batch, again.compute(kernels(), batch, window), strict=True):
            found[i].append(some)

    for i, one in enumerate(whole):
        assert_close(one, sequences.reference(i, window))
        assert torch.equal(one, torch.cat(found[i]))


@pytest.mark.parametrize("damaged", [(0, 128), (128, 256), (5, 6)])
def test_damaged_keys_are_never_passed_over(damaged: tuple[int, int]) -> None:
    sequences = Sequences([300], 16, (4, 2, 32))
    sequences.keys[0][slice(*damaged)] = torch.nan

    (found,) = sequences.compute(kernels(), [(0, 0, 300)])

    assert found[: damaged[0]].isfinite().all()
    assert found[damaged[0] :].isnan().all()


def test_keys_and_queries_are_turned_by_their_angles() -> None:
    sequences = Sequences([20], 16, (4, 2, 32))
    runs, angles = sequences.runs([(0, 0, 20)]), 9 * numbers(5, 20, 16)
    queries, keys = sequences.queries[0].clone(), sequences.keys[0]

    heads = (queries, keys, sequences.values[0])
    kernels().write(sequences.cache, heads, (angles.cos(), angles.sin()), runs)

    def turned(given: Tensor) -> Tensor:
        numbers = torch.complex(*given.chunk(2, dim=-1))
        numbers = numbers * torch.polar(torch.ones_like(angles), angles)[:, None]
        return torch.cat((numbers.real, numbers.imag), dim=-1)

    written = sequences.cache[torch.from_numpy(runs.slots)].view(keys.shape)
    assert_close(written, turned(keys))
    assert_close(queries, turned(sequences.queries[0]))
    values = sequences.cache[torch.from_numpy(runs.slots) + 16].view(keys.shape)
    assert torch.equal(values, sequences.values[0])


# --- the same bits ------------------------------------------------------------------------------


@a_few
@given(rows=st.integers(2, 300), size_in=sizes, size_out=sizes, seed=seeds)
def test_a_row_is_the_same_to_the_last_bit_whatever_else_is_in_the_batch(
    rows: int, size_in: int, size_out: int, seed: int
) -> None:
    x, layer = numbers(seed, rows, size_in), one(packed(numbers(seed + 1, size_out, size_in)))
    scale = numbers(seed + 2, size_in)
    begin = seed % rows
    end = begin + 1 + seed % (rows - begin)

    some = x[begin:end].clone()

    assert torch.equal(kernels().linear(some, layer), kernels(2).linear(x, layer)[begin:end])
    normed = kernels().norm(some, scale, 1e-5)
    assert torch.equal(normed, kernels(2).norm(x, scale, 1e-5)[begin:end])
    gated = kernels().gated(some.clone(), normed)
    assert torch.equal(
        gated, kernels(2).gated(x.clone(), kernels().norm(x, scale, 1e-5))[begin:end]
    )


def test_vectors_of_half_the_width_compute_the_same_bits(narrow: Kernels) -> None:
    x, weight = numbers(1, 50, 130), numbers(2, 77, 130)
    small, scale = packed_int8(weight), numbers(3, 130)
    lengths, heads = [700, 33, 1], (9, 3, 64)
    parts = [(i, 0, n) for i, n in enumerate(lengths)]

    for compute in (
        lambda k: k.linear(x, one(packed(weight))),
        lambda k: k.linear(x, one(small)),
        lambda k: k.norm(x, scale, 1e-6),
        lambda k: k.gated(8 * x, x),
        lambda k: torch.cat(Sequences(lengths, 16, heads).compute(k, parts, None)),
    ):
        assert torch.equal(compute(kernels()), compute(narrow))


# --- threads ------------------------------------------------------------------------------------

FORKING = """
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
library.open_pool.restype = ctypes.c_void_p
pool = ctypes.c_void_p(library.open_pool(ctypes.c_long(4)))
child = os.fork()
library.close_pool(pool)
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
os._exit(0)
"""


def test_a_fork_which_has_no_threads_waits_for_none_when_it_ends() -> None:
    ended = subprocess.run([sys.executable, "-c", FORKING, built(CACHE)], timeout=30, check=False)

    assert ended.returncode == 0
