"""How many flows wait, rest, send and receive, kept up to date so that nobody need count them."""

from __future__ import annotations

from collections.abc import Iterable
from operator import add, sub
from typing import NamedTuple

from .flows import Flow, Key


class Share(NamedTuple):
    """What one flow adds to the sums."""

    expecting: int = 0
    suspended: int = 0
    sending: int = 0
    receiving: int = 0
    granted_pages: int = 0

    @classmethod
    def of(cls, flow: Flow) -> Share:
        generation, reception = flow.generation, flow.reception
        return cls(
            expecting=generation is not None and generation.expecting_since is not None,
            suspended=generation is not None and generation.suspended,
            sending=flow.sending is not None,
            receiving=reception is not None and reception.is_arriving,
            granted_pages=reception.num_granted if reception else 0,
        )


class Tally:
    def __init__(self) -> None:
        self.sums = Share()
        self._shares: dict[Key, Share] = {}

    def note(self, flow: Flow) -> None:
        """The flow has changed, or may have."""
        share, known = Share.of(flow), self._shares.get(flow.key, _NOTHING)
        if share == known:
            return
        self.sums = Share(*map(add, self.sums, map(sub, share, known)))
        if share == _NOTHING:
            self._shares.pop(flow.key, None)
        else:
            self._shares[flow.key] = share

    def check_integrity(self, flows: Iterable[Flow]) -> None:
        """The sums are those of all ``flows``. Linear in their number."""
        shares = {flow.key: Share.of(flow) for flow in flows}
        assert self._shares == {key: share for key, share in shares.items() if share != _NOTHING}
        assert self.sums == Share(*map(sum, zip(_NOTHING, *shares.values(), strict=True)))


_NOTHING = Share()
