"""The pool takes what is free beside the weights, or what it was given, or says why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kv_memory import (
    WORKSPACE_BYTES,
    Demand,
    DoesNotFit,
    Share,
    Size,
    kv_pages,
    read_kv_memory,
    read_size,
)

GIB = 1 << 30
DEMAND = Demand("M", "float32", weights_bytes=2 * GIB, page_bytes=1 << 20)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", Size(512 << 20)),
        ("1.5 GiB", Size(3 * GIB // 2)),
        ("7B", Size(7)),
        ("2TiB", Size(2048 * GIB)),
        ("40%", Share(0.4)),
        ("100%", Share(1.0)),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: Size | Share) -> None:
    assert read_kv_memory(text) == size
    assert read_kv_memory(str(size)) == size


@pytest.mark.parametrize("text", ["", "5", "-1GiB", "1GB", "0%", "101%", "half"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"like 512MiB|at most 100%"):
        read_kv_memory(text)


def test_a_share_is_no_size() -> None:
    with pytest.raises(ValueError, match="is no size"):
        read_size("10%")


def test_a_share_is_of_what_the_weights_leave() -> None:
    free_bytes = 2 * GIB + WORKSPACE_BYTES + GIB

    assert kv_pages(Share(0.5), DEMAND, free_bytes) == 512
    assert kv_pages(Size(GIB), DEMAND, free_bytes) == 1024


def test_a_model_that_does_not_fit_is_told_with_what_there_is() -> None:
    with pytest.raises(DoesNotFit) as error:
        kv_pages(Share(0.5), DEMAND, 2 * GIB)

    for words in ("M does not fit", "2.0 GiB in float32", "2.0 GiB are free", "--dtype bfloat16"):
        assert words in str(error.value)


def test_more_than_is_free_is_told_with_what_is() -> None:
    with pytest.raises(DoesNotFit, match=r"4\.0 GiB of KV .* 1\.0 GiB are free .* --kv-memory"):
        kv_pages(Size(4 * GIB), DEMAND, 3 * GIB + WORKSPACE_BYTES)


def test_too_little_for_one_page_is_told_with_what_one_takes() -> None:
    with pytest.raises(DoesNotFit, match=r"0\.5 MiB for KV hold no page: one takes 1\.0 MiB"):
        kv_pages(Size(1 << 19), DEMAND, 8 * GIB)


@given(
    free=st.integers(0, 1 << 40),
    weights=st.integers(0, 1 << 40),
    page=st.integers(1, 1 << 30),
    wanted=st.one_of(st.floats(0.01, 1.0).map(Share), st.integers(1, 1 << 40).map(Size)),
)
def test_whatever_is_planned_fits_and_is_no_more_than_was_asked_for(
    free: int, weights: int, page: int, wanted: Share | Size
) -> None:
    try:
        num_pages = kv_pages(wanted, Demand("M", "bfloat16", weights, page), free)
    except DoesNotFit:
        return

    assert num_pages >= 1
    assert weights + WORKSPACE_BYTES + num_pages * page <= free
    if isinstance(wanted, Size):
        assert wanted.num_bytes - page < num_pages * page <= wanted.num_bytes
