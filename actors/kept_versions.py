"""The versions of strategies that the broker keeps, where it keeps any."""

from __future__ import annotations

import logging

from bus.interface import BusError
from bus.jetstream import JetStreamBuckets
from bus.nats import NatsBus

from .version_store import VersionStore

logger = logging.getLogger("microserve.router")


async def kept_versions(bus: NatsBus, namespace: str) -> VersionStore | None:
    """None, and a word in the log, where the broker keeps nothing."""
    try:
        return await VersionStore.open(JetStreamBuckets(bus), namespace)
    except BusError as error:
        logger.warning("orchestrations are those that are installed: %s", error)
        return None
