"""Products whose rows come out the same however many of them there are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 8
"""Every product has a multiple of so many. Fewer would be computed in other ways, by row or column,
which add up in other orders."""
TRIED = (2 * ROWS, 3 * ROWS, 8 * ROWS, 25 * ROWS)


def filled_up(x: Tensor) -> Tensor:
    """``[rows, in]`` with rows of zeros up to a multiple of `ROWS`; the same where it is one."""
    missing = -len(x) % ROWS
    return functional.pad(x, (0, 0, 0, missing)) if missing else x


def rows_agree(product: Callable[[Tensor], Tensor], num_in: int, like: Tensor) -> bool:
    """Whether a row of ``product`` of ``[rows, num_in]`` has the same bits among `ROWS` and among
    many, wherever it stands. A trial on random numbers of dtype and device of ``like``."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(max(TRIED), num_in, generator=generator).to(like)
    by_few = torch.cat([product(part) for part in torch.split(x, ROWS)])
    turned = torch.cat([product(part) for part in torch.split(x.roll(3, 0), ROWS)]).roll(-3, 0)
    whole = (product(x[:count]) for count in TRIED)
    same = all(torch.equal(found, by_few[: len(found)]) for found in whole)
    return same and torch.equal(turned, by_few)
