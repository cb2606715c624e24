"""Numbers of one type as those of another, bit for bit as torch converts them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kvtransport.casting import Cast, DoesNotFit, cast_between
from kvtransport.layout import Bytes

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def bits(tensor: torch.Tensor) -> Bytes:
    return tensor.contiguous().view(torch.uint8).numpy()


@pytest.mark.parametrize("target", TYPES)
@pytest.mark.parametrize("source", TYPES)
@given(numbers=arrays(np.float32, 16, elements=st.floats(-60000, 60000, width=32)))
def test_every_pair_of_types_is_converted_as_torch_does(
    source: str, target: str, numbers: np.ndarray
) -> None:
    given_ = torch.from_numpy(numbers).to(TYPES[source])

    converted = Cast(source, target)(bits(given_))

    assert np.array_equal(converted, bits(given_.to(torch.float32).to(TYPES[target])))


@given(st.integers(0, 2**16 - 1))
def test_what_is_made_wider_comes_back_unchanged(pattern: int) -> None:
    for narrow in ("bfloat16", "float16"):
        content = np.array([pattern], np.uint16).view(np.uint8)
        wide = Cast(narrow, "float32")(content)
        if not np.isnan(wide.view(np.float32)[0]):
            assert np.array_equal(Cast("float32", narrow)(wide), content)


@pytest.mark.parametrize("target", ["bfloat16", "float16"])
def test_infinity_and_no_number_stay_what_they_are(target: str) -> None:
    special = np.array([np.inf, -np.inf, np.nan], np.float32)

    there = Cast("float32", target)(special.view(np.uint8))
    back = Cast(target, "float32")(there).view(np.float32)

    assert np.array_equal(back, special, equal_nan=True)


@pytest.mark.parametrize(("value", "target"), [(1e5, "float16"), (3.4e38, "bfloat16")])
def test_a_number_that_is_too_large_is_not_made_infinite(value: float, target: str) -> None:
    with pytest.raises(DoesNotFit, match=f"does not fit {target}"):
        Cast("float32", target)(np.array([1.0, value], np.float32).view(np.uint8))


def test_equal_types_need_nothing() -> None:
    assert cast_between("float16", "float16") is None
