"""Pages outside of the pool: in a memory-mapped file, or in ordinary memory mapped the same way.

```
| header | slot 0's entry | slot 1's entry | ... |   slot 0   |   slot 1   | ...
          key, checksum, order of arrival           content, slot_bytes
```

A slot's entry is cleared before its content is written and set afterwards, so that a process which
dies in between leaves no entry. What a machine that dies leaves is found by the checksum.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
from msgspec import Struct

from .page_memory import PageBytes

KEY_BYTES = 16
_HEADER = struct.Struct("<8s64sQQ")
_ENTRY = struct.Struct(f"<{KEY_BYTES}sIQ")
_MAGIC = b"msPages1"
_CHECK = struct.Struct("<I")
_ENTRY_BYTES = _ENTRY.size + _CHECK.size
_EMPTY = bytes(_ENTRY_BYTES)
_SYSTEM_PAGE = mmap.PAGESIZE


class StoreUnusable(Exception):
    """The file cannot be had, or not at this size."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"KV pages cannot be kept in {path}: {why}")
        self.path, self.why = path, why


class StoreShape(Struct, frozen=True):
    num_slots: int
    slot_bytes: int
    fingerprint: str
    """Of what the pages are: a file of other pages is begun anew. At most 64 bytes."""

    @property
    def content_begin(self) -> int:
        entries_end = _HEADER.size + self.num_slots * _ENTRY_BYTES
        return -(-entries_end // _SYSTEM_PAGE) * _SYSTEM_PAGE

    @property
    def num_bytes(self) -> int:
        return self.content_begin + self.num_slots * self.slot_bytes

    def header(self) -> bytes:
        return _HEADER.pack(_MAGIC, self.fingerprint.encode(), self.num_slots, self.slot_bytes)


class PageStore:
    """Keeps the pages that were put in last or asked for last, one in each slot, by key.

    One user at a time. Content is checked on the way out: what does not have its checksum any more
    is dropped and counted, and never given to anybody.
    """

    def __init__(self, shape: StoreShape, memory: mmap.mmap, file: int | None = None) -> None:
        """Use `in_memory` or `in_file`."""
        self.shape, self.num_corrupt = shape, 0
        self._memory, self._file = memory, file
        self._slots: OrderedDict[bytes, int] = OrderedDict()
        """Oldest use first."""
        self._free = list(range(shape.num_slots - 1, -1, -1))
        self._arrivals = 0

    @classmethod
    def in_memory(cls, shape: StoreShape) -> Self:
        """Memory is taken by the system when a slot is first used."""
        return cls(shape, mmap.mmap(-1, shape.num_bytes))

    @classmethod
    def in_file(cls, path: Path, shape: StoreShape) -> Self:
        """With the pages that an earlier process left there, if they are of the same kind.

        The file's whole size is taken on the disk at once, so that it cannot run out later.

        Raises:
            StoreUnusable: another process has it, there is no room, or it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnusable(path, str(error)) from error
        try:
            return cls._opened(path, file, shape)
        except BaseException:
            os.close(file)
            raise

    @classmethod
    def _opened(cls, path: Path, file: int, shape: StoreShape) -> Self:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            known = os.pread(file, _HEADER.size, 0) == shape.header()
            if not known:
                os.ftruncate(file, 0)
            os.posix_fallocate(file, 0, shape.num_bytes)
            store = cls(shape, mmap.mmap(file, shape.num_bytes), file)
        except BlockingIOError as error:
            raise StoreUnusable(path, "another engine uses it: give each its own") from error
        except OSError as error:
            why = f"{shape.num_bytes >> 20} MiB are wanted: {error}"
            raise StoreUnusable(path, why) from error
        if known:
            store._read_entries()
        store._memory[: _HEADER.size] = shape.header()
        return store

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: bytes) -> bool:
        return key in self._slots

    def put(self, key: bytes, content: PageBytes) -> None:
        """Keep ``content``, ``slot_bytes`` long; the longest unused goes where all slots are full.

        A key stands for one content for good: where it is here already, it is only used again.
        """
        assert len(key) == KEY_BYTES
        assert content.nbytes == self.shape.slot_bytes
        if key in self._slots:
            self._slots.move_to_end(key)
            return
        if self.shape.num_slots == 0:
            return
        slot = self._free.pop() if self._free else self._slots.popitem(last=False)[1]
        self._set_entry(slot, _EMPTY)
        begin = self._begin(slot)
        self._memory[begin : begin + self.shape.slot_bytes] = content.data
        self._arrivals += 1
        entry = _ENTRY.pack(key, _checksum(key, content.data), self._arrivals)
        self._set_entry(slot, entry + _CHECK.pack(zlib.crc32(entry)))
        self._slots[key] = slot

    def get(self, key: bytes) -> PageBytes | None:
        """The content as it was put; a view that is valid until the next `put`. None: not here."""
        if key not in self._slots:
            return None
        content = self.peek(key)
        if self._entry(self._slots[key])[1] != _checksum(key, content.data):
            self.num_corrupt += 1
            self.forget(key)
            return None
        self._slots.move_to_end(key)
        return content

    def forget(self, key: bytes) -> None:
        """It is not here any more, nor for a later process."""
        if key in self._slots:
            slot = self._slots.pop(key)
            self._set_entry(slot, _EMPTY)
            self._free.append(slot)

    def peek(self, key: bytes) -> PageBytes:
        """What lies in the slot of a key that is here: the memory itself, unchecked, not used."""
        begin = self._begin(self._slots[key])
        return np.frombuffer(self._memory, np.uint8, self.shape.slot_bytes, offset=begin)

    def close(self) -> None:
        """The file stays, for the next one; again does nothing."""
        with suppress(BufferError):  # somebody still looks at a page: it ends with his view
            self._memory.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def check_integrity(self) -> None:
        """Every slot is free or has one key, whose entry says so."""
        used = list(self._slots.values())
        assert sorted([*used, *self._free]) == list(range(self.shape.num_slots)), "lost or twice"

    def _read_entries(self) -> None:
        """What an earlier process left, in the order in which it came."""
        entries = [(*self._entry(slot), slot) for slot in range(self.shape.num_slots)]
        for key, _, arrival, slot in sorted(entries, key=lambda entry: entry[2]):
            if arrival and key not in self._slots:
                self._slots[key] = slot
                self._arrivals = arrival
        used = set(self._slots.values())
        self._free = [slot for slot in self._free if slot not in used]

    def _begin(self, slot: int) -> int:
        return self.shape.content_begin + slot * self.shape.slot_bytes

    def _entry(self, slot: int) -> tuple[bytes, int, int]:
        """Key, checksum, and the number of its arrival, which is 0 where there is none."""
        begin = _HEADER.size + slot * _ENTRY_BYTES
        packed = self._memory[begin : begin + _ENTRY_BYTES]
        entry = packed[: _ENTRY.size]
        if packed[_ENTRY.size :] != _CHECK.pack(zlib.crc32(entry)):
            self.num_corrupt += packed != _EMPTY
            return b"", 0, 0
        key, checksum, arrival = _ENTRY.unpack(entry)
        return key, checksum, arrival

    def _set_entry(self, slot: int, entry: bytes) -> None:
        begin = _HEADER.size + slot * _ENTRY_BYTES
        self._memory[begin : begin + _ENTRY_BYTES] = entry


def _checksum(key: bytes, content: memoryview) -> int:
    """The key is in it: right content in another's place is wrong, too."""
    return zlib.crc32(content, zlib.crc32(key))
