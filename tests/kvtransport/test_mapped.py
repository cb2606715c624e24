from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvtransport.layout import Runs
from kvtransport.mapped import copy_runs

KIB = 1024


@st.composite
def plans(draw: st.DrawFn) -> Runs:
    """Runs of several lengths in places of their own on both sides, in any order."""
    unit = draw(st.sampled_from([1, 100, 256, 4 * KIB, 40 * KIB]))
    sizes = np.array(draw(st.lists(st.integers(1, 3), min_size=1, max_size=12)), np.int64) * unit
    slots = np.arange(len(sizes)) * 3 * unit
    local = np.array(draw(st.permutations(slots.tolist())), np.int64)
    remote = np.array(draw(st.permutations(slots.tolist())), np.int64)
    return Runs(local, remote, sizes)


@given(plans())
def test_every_byte_of_a_run_is_copied_and_no_other(runs: Runs) -> None:
    source = np.random.default_rng(1).integers(1, 255, 2000 * KIB, np.uint8)
    target = np.zeros_like(source)

    copy_runs(source, target, runs)

    expected = np.zeros_like(source)
    columns = runs.local.tolist(), runs.remote.tolist(), runs.num_bytes.tolist()
    for begin, to, size in zip(*columns, strict=True):
        expected[to : to + size] = source[begin : begin + size]
    assert np.array_equal(target, expected)


def test_a_pool_that_is_no_multiple_of_the_piece_is_copied_to_its_end() -> None:
    source, target = np.arange(1000, dtype=np.uint16).view(np.uint8), np.zeros(1500, np.uint8)
    runs = Runs(np.array([0, 900]), np.array([300, 1200]), np.array([300, 300]))

    copy_runs(source, target, runs)

    assert bytes(target[1200:]) == bytes(source[900:1200])
    assert bytes(target[300:600]) == bytes(source[:300])


def test_no_runs_are_no_copies() -> None:
    none = np.empty(0, np.int64)
    target = np.zeros(8, np.uint8)

    copy_runs(np.ones(8, np.uint8), target, Runs(none, none, none))

    assert not target.any()
