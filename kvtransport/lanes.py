"""Which of UCX's transports really carries the bytes, for people who read traces.

UCX is asked, not trusted to say: memory that it mapped into our address space is shared memory, and
the kernel's list of mappings tells which kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_KINDS = {"/SYSV": "sysv", "/dev/shm/": "posix"}
_OWN_MACHINE = ("self", "sysv", "posix", "xpmem")


def shared_lane(maps: Iterable[str], address: int) -> str:
    """The kind of shared memory at ``address``, given the lines of ``/proc/self/maps``."""
    for line in maps:
        begin, _, rest = line.partition("-")
        end, _, rest = rest.partition(" ")
        if int(begin, 16) <= address < int(end, 16):
            return next((kind for path, kind in _KINDS.items() if path in rest), "shm")
    return "shm"


def copying_lane(transports: Sequence[str]) -> str:
    """Which lane writes memory that is not shared, of those that an endpoint has.

    The kernel's copy between processes before a network, and TCP last, as UCX prefers them.
    """
    far = [name for name in transports if name not in _OWN_MACHINE]
    if "cma" in far:
        return "cma"
    return next((name for name in far if name != "tcp"), "tcp")
