"""The content of pages, apart from what is computed: copied within the pool, read out, put back."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bus.transfers import PoolShape

PageBytes: TypeAlias = NDArray[np.uint8]
"""All layers of one page, ``[num_layers * page_bytes]``, contiguous."""
Numbers: TypeAlias = NDArray[np.int64]


class PageMemory(Protocol):
    """Moves whole pages, all layers of them. Used between batches, never during one."""

    def copy(self, sources: Numbers, targets: Numbers) -> None:
        """``targets[i]`` becomes what ``sources[i]`` was before the call. No target twice."""
        ...

    def read(self, page: int) -> PageBytes:
        """The content of a page, in memory of its own on the host."""
        ...

    def write(self, page: int, content: PageBytes) -> None:
        """The page becomes ``content``, as `read` gave it; not kept after the call."""
        ...


class HostPageMemory:
    """A pool in memory of the host that lies as `PoolShape` says."""

    def __init__(self, buffer: Any, shape: PoolShape) -> None:
        flat = np.frombuffer(buffer, np.uint8)
        self._pages = flat.reshape(shape.num_layers, shape.num_pages, shape.page_bytes)

    def copy(self, sources: Numbers, targets: Numbers) -> None:
        self._pages[:, targets] = self._pages[:, sources]

    def read(self, page: int) -> PageBytes:
        return self._pages[:, page].flatten()

    def write(self, page: int, content: PageBytes) -> None:
        layers, _, page_bytes = self._pages.shape
        self._pages[:, page] = content.reshape(layers, page_bytes)
