"""The pages of a pool that is a tensor, on whatever device it is."""

from __future__ import annotations

import torch
from torch import Tensor

from .page_memory import Numbers, PageBytes


class TorchPageMemory:
    """See `PageMemory`; ``pool`` is ``[num_layers, num_pages, ...]``, contiguous.

    Pages keep their bytes: they are moved as integers, so that NaN stays the NaN it was.
    """

    def __init__(self, pool: Tensor) -> None:
        self._pages = pool.flatten(2).view(torch.uint8)

    def copy(self, sources: Numbers, targets: Numbers) -> None:
        device = self._pages.device
        content = self._pages.index_select(1, torch.from_numpy(sources).to(device))
        self._pages.index_copy_(1, torch.from_numpy(targets).to(device), content)

    def read(self, page: int) -> PageBytes:
        content = self._pages[:, page].to("cpu", copy=True, memory_format=torch.contiguous_format)
        flat: PageBytes = content.flatten().numpy()
        return flat

    def write(self, page: int, content: PageBytes) -> None:
        source = torch.from_numpy(content).view(self._pages.shape[0], -1)
        self._pages[:, page].copy_(source)
