"""Keep what was made of a file, so that it is made once on a machine and shared by all engines."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from .file_digest import sampled_digest
from .model_errors import ModelError

Convert: TypeAlias = Callable[[Path, Path], None]
"""From a source file into an existing empty folder."""

VERSION = 1
"""Changes whenever a conversion makes something else of the same file."""

LISTING = "converted.json"

log = logging.getLogger(__name__)


class _Listing(Struct, frozen=True):
    """What a complete conversion consists of: every file with its sampled digest."""

    source: str
    files: dict[str, str]


def converted(source: Path, cache_dir: Path, convert: Convert) -> Path:
    """The folder that ``convert`` makes of ``source``; made only where the cache has no whole one.

    Of several processes that ask at the same moment one converts and the others wait for it. A
    folder is never seen half-written. Where the cache cannot be written, the conversion goes to a
    temporary folder that is deleted at exit.

    Raises:
        ModelError: there is no place to convert to.
        Whatever ``convert`` raises.
    """
    folder = cache_dir / _key(source)
    if _is_whole(folder):
        return folder
    try:
        with _alone(folder.with_suffix(".lock")):
            if not _is_whole(folder):
                _make(source, folder, convert)
        return folder
    except OSError as error:
        log.warning("cannot cache the converted model in %s: %s", folder, error)
    return _make_temporary(source, convert)


def _key(source: Path) -> str:
    status = source.stat()
    parts = (VERSION, status.st_size, status.st_mtime_ns, sampled_digest(source))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _is_whole(folder: Path) -> bool:
    try:
        listing = msgspec.json.decode((folder / LISTING).read_bytes(), type=_Listing)
        return all(sampled_digest(folder / name) == it for name, it in listing.files.items())
    except (OSError, msgspec.DecodeError):
        return False


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold the lock, which the kernel gives back when a process dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(source: Path, folder: Path, convert: Convert) -> None:
    """Only under the lock: what lies in the work folder was left by a process that died."""
    work = folder.with_suffix(".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        _fill(source, work, convert)
        # An engine that has mapped the files of a damaged folder keeps them: unlinked, not changed.
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make_temporary(source: Path, convert: Convert) -> Path:
    try:
        work = Path(tempfile.mkdtemp(prefix="microserve-"))
        atexit.register(shutil.rmtree, work, ignore_errors=True)
        _fill(source, work, convert)
    except OSError as error:
        raise ModelError(f"no place to convert {source} to: {error}") from error
    return work


def _fill(source: Path, work: Path, convert: Convert) -> None:
    convert(source, work)
    files = {path.name: sampled_digest(path) for path in sorted(work.iterdir())}
    (work / LISTING).write_bytes(msgspec.json.encode(_Listing(source.name, files)))
