"""Where evicted pages go, and come back from when their prefix is asked for again."""

from __future__ import annotations

from typing import Protocol

from .page_memory import PageBytes, PageMemory


class Store(Protocol):
    """See `engine.page_store.PageStore`."""

    @property
    def num_corrupt(self) -> int: ...

    def __len__(self) -> int: ...

    def __contains__(self, key: bytes) -> bool: ...

    def put(self, key: bytes, content: PageBytes) -> None: ...

    def get(self, key: bytes) -> PageBytes | None: ...

    def forget(self, key: bytes) -> None: ...


class SecondTier:
    """Moves content between the pool and a store. A page that came back stays in the store, too, so
    that it need not be written again when it is evicted again."""

    def __init__(self, memory: PageMemory, store: Store) -> None:
        self._memory, self._store = memory, store
        self.num_saved = self.num_restored = 0

    @property
    def num_pages(self) -> int:
        return len(self._store)

    @property
    def num_corrupt(self) -> int:
        return self._store.num_corrupt

    def __contains__(self, key: bytes) -> bool:
        return key in self._store

    def save(self, key: bytes, page: int) -> None:
        """Keep the content of ``page``, which is about to become another."""
        if key not in self._store:
            self.num_saved += 1
            self._store.put(key, self._memory.read(page))

    def forget(self, key: bytes) -> None:
        """What is under ``key``, if anything, is not to come back."""
        self._store.forget(key)

    def restore(self, key: bytes, page: int) -> bool:
        """Make ``page`` what was saved under ``key``. False: that is gone, or not what it was."""
        content = self._store.get(key)
        if content is None:
            return False
        self._memory.write(page, content)
        self.num_restored += 1
        return True
