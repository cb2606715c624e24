"""Who has which page of the pool: free, cached for reuse, or in use by so many."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import takewhile

import numpy as np

from .free_pages import FreePages
from .journal import CacheChanges
from .pins import Pins
from .prefix_cache import Node, PrefixCache
from .runner import Ids
from .second_tier import SecondTier


class Pages:
    """Reference counts over the pool, with the prefix cache on top.

    ```
    free --take--> in use --drop--> free                (not published)
                      |
                   publish
                      |
                      v
                   in use --drop--> cached --hold--> in use
                                       \\--evicted by take--> free
                                                \\--> second tier --restored--> in use
    ```

    Two rules make eviction O(1). A holder of a cached page holds the pages before it, too; and a
    holder drops its pages last one first. So in ``_idle``, ordered by when the last holder left,
    what comes after a page is always in front of it: the head is a leaf, and least recently used.
    """

    def __init__(
        self,
        num_pages: int,
        page_size: int,
        tier: SecondTier | None = None,
        pinnable_pages: int = 0,
    ) -> None:
        self.num_pages, self.page_size, self.tier = num_pages, page_size, tier
        self.pins = Pins(pinnable_pages)
        self.num_evictions = 0
        self._free = FreePages(num_pages)
        self._cache = PrefixCache(page_size)
        # Zeroed memory that the system hands out when it is touched: a million pages cost nothing
        # before they are used. Single numbers are read faster through a view than from an array.
        self._references = np.zeros(num_pages, np.int32).data
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._copies: dict[int, int] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_cached(self) -> int:
        """Pages that nobody uses but whose content is kept for reuse."""
        return len(self._idle)

    @property
    def num_available(self) -> int:
        """Pages that `take` can give now, evicting what is cached."""
        return self.num_free + self.num_cached

    @property
    def num_in_use(self) -> int:
        return self.num_pages - self.num_available

    def take(self, count: int, after: int | None = None) -> list[int]:
        """``count`` pages with one reference each, preferably adjacent and following ``after``.

        Evicts the least recently used cached pages where free ones are short. ``count`` must not
        exceed `num_available`.
        """
        while self.num_free < count:
            self._evict()
        taken = self._free.take(count, after)
        for page in taken:
            self._references[page] = 1
        return taken

    def copy(self, page: int) -> int:
        """A page of one's own in exchange for a reference to ``page``, which others see, too.

        Its content comes with the next `take_copies`: nothing may write ``page`` before.
        """
        [fresh] = self.take(1, after=page)
        self._copies[fresh] = page
        self.drop(page)
        return fresh

    def take_copies(self) -> dict[int, int]:
        """Whose content each fresh page has to get, by the fresh page; each is told once.

        All sources are to be read before a page is written: one may be free by now, and may even
        have become another one's fresh page.
        """
        copies, self._copies = self._copies, {}
        return copies

    def hold(self, page: int) -> None:
        """One more reference to a page that is in use or cached."""
        if self._references[page] == 0:
            del self._idle[page]
        self._references[page] += 1

    def drop(self, page: int) -> None:
        """One reference less; the last one leaves the page cached if it was published."""
        assert self._references[page] > 0, f"page {page} is dropped by somebody who has it not"
        self._references[page] -= 1
        if self._references[page]:
            return
        if page in self._cache:
            self._idle[page] = None
        else:
            self._free.give(page)

    def match(self, tokens: Ids, adapter: str = "") -> list[Node]:
        """Cached full pages at the start of ``tokens``. Changes nothing, takes no reference."""
        return self._cache.match(tokens, adapter)

    def publish(self, parent: Node | None, tokens: Ids, page: int, adapter: str = "") -> Node:
        """Let others find ``page`` as what follows ``parent``; the caller has a reference to both.

        Where the same tokens are cached already, that node is returned instead, with a reference
        for the caller, who keeps his own page to himself.
        """
        node = self._cache.insert(parent, tokens, page, adapter)
        if node.page != page:
            self.hold(node.page)
        if self.pins:
            self._keep(node)
        return node

    def forget(self, page: int) -> bool:
        """Take a cached page of the caller's back from those who might find it, in the second tier,
        too; False where others have it already, or what comes after it."""
        node = self._cache.node(page)
        if self._references[page] > 1 or node.children:
            return False
        if self.tier:
            self.tier.forget(node.digest)
        self._cache.remove(page)
        return True

    def restored(self, tokens: Ids, path: list[Node], adapter: str = "") -> Iterator[Node]:
        """What the second tier has of ``tokens`` after ``path``, which the caller holds: put back
        into pages one by one as they are asked for, each with a reference for the caller.

        Ends where nothing more is there, is whole, or finds a page.
        """
        if self.tier is None:
            return
        parent, rest = path[-1] if path else None, tokens[len(path) * self.page_size :]
        for index, digest in enumerate(self._cache.digests(rest, adapter, parent)):
            if digest not in self.tier or self.num_available == 0:
                return
            [page] = self.take(1, after=parent.page if parent else None)
            if not self.tier.restore(digest, page):
                self.drop(page)
                return
            begin = index * self.page_size
            part = rest[begin : begin + self.page_size]
            parent = self.publish(parent, part, page, adapter)
            yield parent

    def num_known(self, tokens: Ids, adapter: str = "") -> int:
        """How many tokens at the start need not be computed: they are cached, or in the second
        tier. Changes nothing."""
        path = self.match(tokens, adapter)
        known = len(path)
        if self.tier:
            rest = tokens[known * self.page_size :]
            digests = self._cache.digests(rest, adapter, path[-1] if path else None)
            known += sum(1 for _ in takewhile(self.tier.__contains__, digests))
        return known * self.page_size

    def digests(self, tokens: Ids) -> Iterator[bytes]:
        """By which each full page of ``tokens`` is known outside of this process."""
        return self._cache.digests(tokens)

    def pin(self, tokens: Ids) -> int:
        """Keep the full pages at the start of ``tokens``, those that are cached and those that will
        be: they are not evicted. Returns how many tokens that are.

        Raises:
            PinsFull: more pages would be pinned than ``pinnable_pages``.
        """
        digests = list(self._cache.digests(tokens))
        self.pins.add(digests)
        for node in self.match(tokens):
            self._keep(node)
        return len(digests) * self.page_size

    def unpin(self, tokens: Ids) -> None:
        """They may be evicted again, unless another pinned prefix has them, too.

        Raises:
            ValueError: they are not pinned.
        """
        for page in self.pins.remove(list(self._cache.digests(tokens))):
            self.drop(page)

    def _keep(self, node: Node) -> None:
        if self.pins.keep(node.digest, node.page):
            self.hold(node.page)

    def take_cache_changes(self) -> CacheChanges:
        """What was published and evicted since the last call."""
        return self._cache.journal.take()

    def cached_hashes(self) -> tuple[int, ...]:
        """Every page that can be found, in use or not, by its hash."""
        return tuple(node.hash for node in self._cache.nodes())

    def is_private(self, page: int) -> bool:
        """Nobody else reads it and nobody can find it: it may be written."""
        return self._references[page] == 1 and page not in self._cache

    def _evict(self) -> None:
        page, _ = self._idle.popitem(last=False)
        if self.tier:
            self.tier.save(self._cache.node(page).digest, page)
        self._cache.remove(page)
        self._free.give(page)
        self.num_evictions += 1

    def check_integrity(self, held: Iterable[int]) -> None:
        """Every page exactly once free, cached or in use; references as in ``held``, which names a
        page once for each reference that somebody has, pins aside. Linear in the pool's size."""
        expected = Counter(held)
        expected.update(self.pins.pages())
        free = [page for begin, end in self._free.runs() for page in range(begin, end)]
        used = [page for page, count in enumerate(self._references.tolist()) if count]
        assert len(free) == len(self._free)
        assert sorted([*free, *self._idle, *used]) == list(range(self.num_pages)), "lost or twice"
        assert {page: self._references[page] for page in used} == expected, "wrong references"
        self._check_cache()

    def _check_cache(self) -> None:
        order = {page: index for index, page in enumerate(self._idle)}
        for node in self._cache.nodes():
            above = self._cache.parent_page(node)
            if self._references[node.page] == 0:
                assert node.page in order, f"cached page {node.page} is neither used nor idle"
            if above is None or self._references[above]:
                continue
            assert order[node.page] < order[above], f"page {above} would go before {node.page}"
        assert all(page in self._cache for page in self._idle)
