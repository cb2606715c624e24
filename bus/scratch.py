"""A folder that lives as long as its owner, and is cleared away later if the owner was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PREFIX: Final = "microserve-nats-"
_LOCK: Final = "owner.lock"
_YOUNG_S: Final = 60.0
"""A folder this young may not have been locked yet."""


class Scratch:
    """A new private folder (mode 0700). Its lock tells others that the owner lives: the kernel
    drops it with the process, and it holds across containers that share the folder's disk."""

    def __init__(self, root: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Again does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def sweep(root: str, *, older_than_s: float = _YOUNG_S) -> None:
    """Remove the folders under ``root`` whose owners were killed."""
    for folder in _folders_of_ours(Path(root)):
        if time.time() - folder.stat().st_mtime > older_than_s:
            _remove_if_orphaned(folder)


def _folders_of_ours(root: Path) -> Iterator[Path]:
    for folder in root.glob(f"{PREFIX}*"):
        if folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid():
            yield folder


def _remove_if_orphaned(folder: Path) -> None:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # its owner lives
    finally:
        os.close(lock)
