"""Worlds of transports that can reach each other: the twin, UCX in one process, UCX in two."""

from __future__ import annotations

import random
import threading
from typing import cast

from kvtransport.memory import MemoryNetwork
from kvtransport.transport import peer_id
from kvtransport.ucx import UcxTransport

from .sites import LocalSite, Piece, RemoteSite, Site

MIB = 2**20


class World:
    """Makes sites that can reach each other, and closes them all.

    ``here`` is in this process; ``there`` is too, unless the world has processes.
    """

    def __init__(self, *, processes: bool = False, settings: dict[str, str] | None = None) -> None:
        self._processes, self._settings = processes, settings or {}
        self._sites: list[Site] = []

    @property
    def lanes(self) -> tuple[str, ...]:
        """What puts between two processes of this world must take: never TCP by accident."""
        if self._settings.get("TLS") == "tcp":
            return ("tcp",)
        return ("cma",) if "ALLOC_PRIO" in self._settings else ("sysv", "posix")

    def here(self, num_bytes: int) -> Site:
        return self._keep(LocalSite(UcxTransport(settings=self._settings), num_bytes))

    def there(self, num_bytes: int) -> Site:
        if not self._processes:
            return self.here(num_bytes)
        return self._keep(cast(Site, RemoteSite(num_bytes, self._settings)))

    def close(self) -> None:
        for site in self._sites:
            site.close()

    def _keep(self, site: Site) -> Site:
        self._sites.append(site)
        return site


class MemoryWorld(World):
    """Sites on the in-memory twin."""

    def __init__(self) -> None:
        super().__init__()
        self._network = MemoryNetwork()

    def here(self, num_bytes: int) -> Site:
        return self._keep(LocalSite(self._network.transport(), num_bytes))


def kv_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kv-")]


def joined(world: World, num_bytes: int = MIB) -> tuple[Site, Site]:
    """A site here that knows one there, and the other way round."""
    here, there = world.here(num_bytes), world.there(num_bytes)
    here.connect(there.address())
    there.connect(here.address())
    return here, there


def id_of(site: Site) -> bytes:
    return peer_id(site.address())


def scattered(count: int, size: int, seed: int) -> list[Piece]:
    """``count`` pieces at random places of both pools, with gaps between them."""
    places = random.Random(seed)
    ours = places.sample(range(2 * count), count)
    theirs = places.sample(range(2 * count), count)
    return [(a * size, b * size, size) for a, b in zip(ours, theirs, strict=True)]
