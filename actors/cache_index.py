"""What each engine's prefix cache has, by its own account: numbered changes, and no gap unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from bus.messages import Beat, CacheChanged
from bus.prefixes import unpack

from .prefix_index import Holders

ASK_EVERY_S: Final = 1.0
"""A snapshot is large, and the one that was asked for may be on its way."""


class _Account(Struct):
    """How far one engine has been followed."""

    epoch: int
    sequence: int = 0
    is_whole: bool = True
    """Nothing was missed since its start or the last snapshot."""
    promised: int = 0
    """By its last beat. Beats may overtake changes: only the next beat proves that one was lost."""
    asked_s: float = float("-inf")


class CacheIndex:
    """A `PrefixIndex` fed by `CacheChanged`. While something is missing, what is known stays: most
    of it is still true, and an engine that is asked in vain only computes."""

    def __init__(self) -> None:
        self._holders = Holders()
        self._accounts: dict[str, _Account] = {}

    def changed(self, change: CacheChanged, now: float) -> bool:
        """Take a change in; True where a snapshot is to be asked for.

        Raises:
            ValueError: it does not hold whole hashes; nothing was taken in.
        """
        stored, evicted = unpack(change.stored), unpack(change.evicted)
        account = self._account(change.engine, change.epoch)
        if account is None or change.sequence <= account.sequence:
            return False
        if change.reset:
            self._holders.forget(change.engine)
        elif not account.is_whole or change.sequence != account.sequence + 1:
            account.is_whole = False
            return self._may_ask(account, now)
        account.sequence, account.is_whole = change.sequence, True
        for page_hash in stored:
            self._holders.add(page_hash, change.engine)
        for page_hash in evicted:
            self._holders.remove(page_hash, change.engine)
        return False

    def heard(self, beat: Beat, now: float) -> bool:
        """Compare with what a heartbeat says; True where a snapshot is to be asked for."""
        account = self._account(beat.engine, beat.epoch)
        if account is None:
            return False
        missed, account.promised = account.promised > account.sequence, beat.cache_sequence
        account.is_whole &= not missed
        return not account.is_whole and self._may_ask(account, now)

    def find(self, hashes: Sequence[int]) -> dict[str, int]:
        return self._holders.find(hashes)

    def forget(self, engine: str) -> None:
        self._holders.forget(engine)
        self._accounts.pop(engine, None)

    def _account(self, engine: str, epoch: int) -> _Account | None:
        """None for what an earlier life of the engine has said. A new life begins with nothing."""
        account = self._accounts.get(engine)
        if account is None or epoch > account.epoch:
            self._holders.forget(engine)
            account = self._accounts[engine] = _Account(epoch)
        return account if epoch == account.epoch else None

    @staticmethod
    def _may_ask(account: _Account, now: float) -> bool:
        if now - account.asked_s < ASK_EVERY_S:
            return False
        account.asked_s = now
        return True
