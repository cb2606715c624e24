"""Weights in the order in which the kernels read them: panels of sixteen columns.

```
weight [out, in]         panels [out / 16, in, 16]
                         panel 0: | in 0 of out 0..15 | in 1 of out 0..15 | ...
                         panel 1: | in 0 of out 16..31 | ...
```

Missing columns of the last panel are zeros. As int8, four numbers of a column are side by side,
``[out / 16, in / 4, 16, 4]``, and 32 of them share a scale, as in llama.cpp's Q8_0: symmetric, the
largest is 127.
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn.functional import pad

from .kernel_limits import GROUP, LANES


class Packed(Struct, frozen=True):
    """One weight matrix; ``panels`` are float32, or int8 with ``scales``."""

    size_in: int
    size_out: int
    panels: Tensor
    scales: Tensor | None = None
    """``[out / 16, groups, 16]``, float32."""


def packed(weight: Tensor) -> Packed:
    """``[out, in]`` float32 in panels, each number as it is."""
    size_out, size_in = weight.shape
    return Packed(size_in, size_out, _panels(weight.float()))


def packed_int8(weight: Tensor) -> Packed:
    """``[out, in]`` rounded to the nearest of 255 steps of its group: 1.125 bytes per weight."""
    size_out, size_in = weight.shape
    groups = pad(weight.float(), (0, -size_in % GROUP)).view(size_out, -1, GROUP)
    scales = groups.abs().amax(-1) / 127
    steps = (groups / scales.clamp_min(torch.finfo().tiny)[..., None]).round().to(torch.int8)
    panels = _panels(steps.view(size_out, -1)[:, : size_in + -size_in % 4])
    fours = panels.view(len(panels), -1, 4, LANES).transpose(2, 3).contiguous()
    return Packed(size_in, size_out, fours, _panels(scales))


def unpacked(weight: Packed) -> Tensor:
    """``[out, in]`` float32, as the kernels compute with it."""
    if weight.scales is None:
        return _rows(weight.panels)[: weight.size_out]
    steps = _rows(weight.panels.transpose(2, 3).flatten(1, 2))[:, : weight.size_in]
    scales = _rows(weight.scales).repeat_interleave(GROUP, dim=1)[:, : weight.size_in]
    return (steps.float() * scales)[: weight.size_out]


def _panels(matrix: Tensor) -> Tensor:
    padded = pad(matrix, (0, 0, 0, -len(matrix) % LANES))
    return padded.view(-1, LANES, matrix.shape[1]).transpose(1, 2).contiguous()


def _rows(panels: Tensor) -> Tensor:
    return panels.transpose(1, 2).flatten(0, 1)
