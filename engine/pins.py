"""Which prefixes are to stay in the cache, and the pages that do because of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence


class PinsFull(Exception):
    """More pages would be kept than may be."""

    def __init__(self, wanted: int, limit: int) -> None:
        super().__init__(
            f"{wanted} pages would be pinned, {limit} may be: pin less, or give the engine more "
            "memory for KV"
        )
        self.wanted, self.limit = wanted, limit


class Pins:
    """By digest, so that a prefix may be pinned before anybody computed it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._counts: dict[bytes, int] = {}
        """How many pinned prefixes have this page in them."""
        self._pages: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._counts

    def pages(self) -> Collection[int]:
        """Those that are here and kept."""
        return self._pages.values()

    def add(self, digests: Sequence[bytes]) -> None:
        """
        Raises:
            PinsFull: and nothing has changed.
        """
        wanted = len(self._counts) + sum(digest not in self._counts for digest in digests)
        if wanted > self.limit:
            raise PinsFull(wanted, self.limit)
        for digest in digests:
            self._counts[digest] = self._counts.get(digest, 0) + 1

    def keep(self, digest: bytes, page: int) -> bool:
        """``page`` is what ``digest`` names. False: it is not wanted, or is kept already."""
        if digest not in self._counts or digest in self._pages:
            return False
        self._pages[digest] = page
        return True

    def remove(self, digests: Sequence[bytes]) -> Iterator[int]:
        """Pages that are kept no longer, last first.

        Raises:
            ValueError: they are not pinned; nothing has changed.
        """
        if any(digest not in self._counts for digest in digests):
            raise ValueError("this prefix is not pinned: unpin what was pinned, token by token")
        return self._removed(digests)

    def _removed(self, digests: Sequence[bytes]) -> Iterator[int]:
        for digest in reversed(digests):
            self._counts[digest] -= 1
            if self._counts[digest] == 0:
                del self._counts[digest]
                if digest in self._pages:
                    yield self._pages.pop(digest)
