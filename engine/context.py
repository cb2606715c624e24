"""A row of tokens and the pages that hold its KV, as far as it is computed or received."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from .pages import Pages
from .prefix_cache import Node
from .ranges import num_pages
from .rank import Rank
from .runner import Ids


class Context:
    """
    ```
    tokens   |<- in the prefix cache ->|<- KV here, not found ->|<- KV missing ->|   room
             0                len(path) * page_size       num_computed       num_tokens   capacity
    ```

    Owns one reference to every page of its block table, and one to every cached page of its path
    that another context computed first (so that what is before a cached page stays, too). Pages
    that others refer to as well are read only: `grow` puts a copy in the place of one that is
    going to be written.
    """

    def __init__(
        self, pages: Pages, rank: Rank, tokens: Ids, capacity: int, adapter: str = ""
    ) -> None:
        """``rank`` says who goes first. Holds no page yet; ``capacity`` tokens fit in. KV is found
        by and shared with contexts of the same ``adapter`` only."""
        assert len(tokens) <= capacity
        self.rank, self.adapter = rank, adapter
        self.num_tokens = len(tokens)
        self.num_computed = 0
        self.num_pages = 0
        self._pages = pages
        self._tokens = np.empty(capacity, np.int32)
        self._tokens[: len(tokens)] = tokens
        self._table = np.empty(num_pages(capacity, pages.page_size), np.int32)
        self._path: list[Node] = []

    @property
    def tokens(self) -> Ids:
        """A view; valid for good, since tokens are only ever appended."""
        return self._tokens[: self.num_tokens]

    @property
    def table(self) -> Ids:
        """The block table: page ``i`` holds tokens ``[i * page_size, (i + 1) * page_size)``."""
        return self._table[: self.num_pages]

    @property
    def capacity(self) -> int:
        return len(self._tokens)

    @property
    def num_pending(self) -> int:
        return self.num_tokens - self.num_computed

    def append(self, token: int) -> None:
        self._tokens[self.num_tokens] = token
        self.num_tokens += 1

    def missing(self, end: int) -> int:
        """Pages wanted before tokens ``[num_computed, end)`` can be written."""
        more = max(0, num_pages(end, self._pages.page_size) - self.num_pages)
        return more + (end > self.num_computed and self._next_is_shared())

    def match(self, end: int) -> None:
        """Take what the prefix cache has of ``tokens[:end]``, in full pages."""
        assert self.num_pages == 0
        tokens = self._tokens[:end]
        for node in self._pages.match(tokens, self.adapter):
            self._pages.hold(node.page)
            self._path.append(node)
            self._push(node.page)
        self.num_computed = self.num_pages * self._pages.page_size

    def restore(self, end: int, most: int | None = None) -> bool:
        """After `match`: take what the second tier has of the rest, ``most`` pages of it (None:
        all). False: there may be more."""
        matched, tokens = len(self._path), self._tokens[:end]
        restored = self._pages.restored(tokens, list(self._path), self.adapter)
        for node in islice(restored, most):
            self._path.append(node)
            self._push(node.page)
        self.num_computed = self.num_pages * self._pages.page_size
        return most is None or len(self._path) - matched < most

    def grow(self, end: int) -> None:
        """Take the pages that are missing for tokens ``[0, end)``; they must be available."""
        if end > self.num_computed and self._next_is_shared():
            index = self.num_computed // self._pages.page_size
            self._table[index] = self._pages.copy(int(self._table[index]))
        count = self.missing(end)
        if count == 0:
            return
        last = int(self._table[self.num_pages - 1]) if self.num_pages else None
        for page in self._pages.take(count, after=last):
            self._push(page)

    def publish(self, end: int) -> None:
        """Put every full page below ``end`` that holds KV into the prefix cache."""
        size = self._pages.page_size
        for index in range(len(self._path), min(end, self.num_computed) // size):
            parent = self._path[-1] if self._path else None
            tokens = self._tokens[index * size : (index + 1) * size]
            page = int(self._table[index])
            self._path.append(self._pages.publish(parent, tokens, page, self.adapter))

    def adopt(self, other: Context, end: int) -> None:
        """Take over the pages of ``other``, whose tokens begin like ours, below token ``end``.

        What is not wanted is dropped, and so is the last page where others can see it but ``end``
        lies inside: the tokens after ``end`` are going to be written.
        """
        assert self.num_pages == 0
        size, end = self._pages.page_size, min(end, other.num_computed)
        if end // size < len(other._path):
            end -= end % size
        other._cut(num_pages(end, size))
        for page in other.table:
            self._push(int(page))
        self._path, self.num_computed = other._path, end
        other._path, other.num_pages, other.num_computed = [], 0, 0

    def fork(self, branch: int, num_tokens: int, end: int, capacity: int) -> Context:
        """Another context of our first ``num_tokens`` tokens, which has the KV of ``[0, end)``
        from us: as many of those pages as hold it are shared by reference.

        Neither writes what both see: where ``end`` lies inside a page, the first of the two to
        write into it takes a page more (see `grow`).
        """
        rank, tokens = self.rank.branched(branch), self.tokens[:num_tokens]
        child = Context(self._pages, rank, tokens, capacity, self.adapter)
        child._share(self, min(end, num_tokens, self.num_computed))
        return child

    def drop(self) -> None:
        """Let all pages go, those after before those before; published ones stay cached."""
        self._cut(0)

    def forget(self) -> None:
        """Nobody shall find what is in here: from the last page back, as far as nobody else has
        it."""
        while self._path and self._pages.forget(self._path[-1].page):
            node = self._path.pop()
            if node.page != self._table[len(self._path)]:
                self._pages.drop(node.page)

    def held(self) -> Iterator[int]:
        """Every page once for each reference."""
        yield from map(int, self.table)
        for index, node in enumerate(self._path):
            if node.page != self._table[index]:
                yield node.page

    def _share(self, other: Context, end: int) -> None:
        """Refer to what ``other`` refers to, root side first, below token ``end``."""
        size = self._pages.page_size
        for index in range(num_pages(end, size)):
            page = int(other._table[index])
            if index < end // size and index < len(other._path):
                node = other._path[index]
                self._path.append(node)
                if node.page != page:
                    self._pages.hold(node.page)
            self._pages.hold(page)
            self._push(page)
        self.num_computed = end

    def _next_is_shared(self) -> bool:
        """The next token's place is in a page that others see."""
        index = self.num_computed // self._pages.page_size
        return index < self.num_pages and not self._pages.is_private(int(self._table[index]))

    def _push(self, page: int) -> None:
        self._table[self.num_pages] = page
        self.num_pages += 1

    def _cut(self, keep: int) -> None:
        for index in range(self.num_pages - 1, keep - 1, -1):
            page = int(self._table[index])
            if index < len(self._path) and self._path[index].page != page:
                self._pages.drop(self._path[index].page)
            self._pages.drop(page)
        del self._path[keep:]
        self.num_pages = keep
        self.num_computed = min(self.num_computed, keep * self._pages.page_size)
