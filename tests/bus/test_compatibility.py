from __future__ import annotations

import pytest
from msgspec.structs import replace

from bus.codec import decode, encode
from bus.compatibility import Compatibility, differences
from bus.messages import Beat
from bus.transfers import PageLayout

LAYOUT = PageLayout(model="m", dtype="float32", num_kv_heads=3, head_dim=64, version=1)
KV = Compatibility(LAYOUT, num_layers=30, page_size=16, protocol=2, transport="ucx 1.22.0")


def test_other_page_sizes_are_laid_out_again() -> None:
    other = replace(KV, page_size=32)

    assert differences("p0", KV, "d0", other) == []
    assert KV.kind("p0") == other.kind("d0")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(KV, layout=replace(LAYOUT, model="n")), "model is 'm' at p0 and 'n' at d0"),
        (replace(KV, layout=replace(LAYOUT, head_dim=32)), "head_dim is 64 at p0 and 32 at d0"),
        (
            replace(KV, layout=replace(LAYOUT, tensor_parallel=3)),
            "tensor_parallel is 1 at p0 and 3 at d0",
        ),
        (replace(KV, layout=replace(LAYOUT, rank=1)), "rank is 0 at p0 and 1 at d0"),
        (replace(KV, num_layers=28), "num_layers is 30 at p0 and 28 at d0"),
        (replace(KV, protocol=3), "protocol is 2 at p0 and 3 at d0"),
        (
            replace(KV, transport="ucx 1.19.0"),
            "transport is 'ucx 1.22.0' at p0 and 'ucx 1.19.0' at d0",
        ),
        (replace(KV, transport="none"), "d0 has no KV transport"),
    ],
)
def test_what_differs_is_told_of_both_sides(other: Compatibility, words: str) -> None:
    assert differences("p0", KV, "d0", other) == [words]
    assert KV.kind("p0") != other.kind("d0")


def test_engines_without_a_transport_are_each_of_their_own_kind() -> None:
    alone = replace(KV, transport="none")

    assert alone.kind("e0") != alone.kind("e1")


def test_a_beat_carries_it() -> None:
    beat = Beat("e0", 1, "m", "both", 0, 1, 1, 16, 99, KV.kind("e0"), kv=KV)

    assert decode(encode(beat), Beat) == beat
