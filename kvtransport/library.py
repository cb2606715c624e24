"""Which libucp is loaded, which of them we can work with, and how it has to be set.

No GPU library is touched: the ``libucx`` package is only asked where it lies.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from ._libucp import Library
from .transport import TransportError

_FILE = "libucp.so.0"
_OLDEST, _BROKEN = (1, 19), (1, 20)

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # Peers that die must be told of, and by default the fast lanes leave when they are.
        "POSIX_ERROR_HANDLING": "y",
        "SYSV_ERROR_HANDLING": "y",
        "CMA_MEMORY_INVALIDATE": "y",
        "KEEPALIVE_INTERVAL": "200ms",
        # Memory that both sides map is twice as fast as the kernel's copy, which UCX believes to be
        # the faster one. It stays the lane to pools that could not be shared.
        "CMA_BW": "100MBps",
        # Fresh pages from the kernel only: they are zeroed, and none is touched before it is used.
        # Not "thp" and "heap": what malloc gives may be somebody's old memory.
        # System V memory is first, since it is not bounded by the size of /dev/shm.
        "ALLOC_PRIO": "md:sysv,md:posix,md:*,mmap",
        # Where only TCP is left, a put must not wait for the peer's interpreter to answer.
        "RNDV_THRESH": "inf",
    }
)
"""On top of the environment's ``UCX_*``; docs/kv.md tells what happens without each."""


class UcxUnavailable(TransportError):
    """There is no UCX to work with: an engine can run without, but not exchange KV.

    ``tried`` says what was tried and why it failed, in order.
    """

    def __init__(self, tried: list[str]) -> None:
        super().__init__(
            "no usable UCX library: "
            + "; ".join(tried)
            + ". Install the extra 'ucx' of this project, or give the path of another libucp.so.0"
            " (1.19 or newer, but not 1.20)"
        )
        self.tried = tried


def load(path: str | None = None) -> Library:
    """The library at ``path``, or else the installed package's, or else the system's.

    Raises:
        UcxUnavailable: none of them can be loaded and has a version that works.
    """
    tried: list[str] = []
    for candidate in [path] if path else _candidates():
        try:
            library = Library(candidate)
        except (OSError, AttributeError) as error:
            tried.append(f"{candidate} ({error})")
            continue
        if why_not := _objection(library.version):
            tried.append(f"{candidate} ({why_not})")
            continue
        return library
    raise UcxUnavailable(tried)


def _candidates() -> Iterator[str]:
    spec = importlib.util.find_spec("libucx")
    for folder in spec.submodule_search_locations or () if spec else ():
        yield str(Path(folder) / "lib" / _FILE)
    yield _FILE


def _objection(version: tuple[int, int, int]) -> str:
    shown = ".".join(map(str, version))
    if version[:2] < _OLDEST:
        return f"version {shown} is older than 1.19"
    return (
        f"version {shown} fails between processes of one machine" if version[:2] == _BROKEN else ""
    )
