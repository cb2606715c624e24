"""A broker inside the process: who is interested in a subject, and who gets the message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Final, Protocol

from msgspec import Struct

from .interface import Message
from .matching import matches

DEFAULT_MAX_PAYLOAD: Final = 8 << 20
NO_RESPONDERS: Final = "503"


class Member(Protocol):
    """A bus, as its broker knows it."""

    def on_disconnected(self) -> None: ...

    def on_reconnected(self) -> None: ...


class Interest(Struct, eq=False):
    """One subscription, or one awaited reply."""

    owner: Member
    pattern: str
    accept: Callable[[Message], None]
    """Takes the message at once and handles it later; never raises."""
    queue: str = ""


class MemoryBroker:
    """What several `bus.memory.MemoryBus` share. ``seed`` decides who of a queue group is chosen.

    For one event loop.
    """

    def __init__(self, *, max_payload: int = DEFAULT_MAX_PAYLOAD, seed: int = 0) -> None:
        self.max_payload = max_payload
        self._random = Random(seed)
        self._exact: dict[str, list[Interest]] = {}
        self._wild: list[Interest] = []
        self._cut_off: set[Member] = set()
        self._numbers = count(1)

    def add(self, interest: Interest) -> None:
        self._peers(interest).append(interest)

    def remove(self, interest: Interest) -> None:
        """Again does nothing."""
        peers = self._peers(interest)
        if interest in peers:
            peers.remove(interest)
        if not peers:
            self._exact.pop(interest.pattern, None)

    def disconnect(self, member: Member) -> None:
        """Cut a bus off: to all others its subscriptions are gone, and it publishes to nobody.
        Again does nothing."""
        if member not in self._cut_off:
            self._cut_off.add(member)
            member.on_disconnected()

    def reconnect(self, member: Member) -> None:
        """Bring it back, with its subscriptions and what it kept. Again does nothing."""
        if member in self._cut_off:
            self._cut_off.remove(member)
            member.on_reconnected()

    def is_connected(self, member: Member) -> bool:
        return member not in self._cut_off

    def number(self) -> int:
        """A different one each time, for names that nobody else has."""
        return next(self._numbers)

    def route(self, message: Message, sender: Member) -> None:
        """Hand a copy to everyone interested, and to one member of each queue group.

        Where nobody is and the message has a reply, the sender hears so on its reply subject: an
        empty message with the headers ``Status: 503`` and ``Nats-Subject``, as from a NATS server.
        """
        chosen = list(self._chosen(message.subject))
        for interest in chosen:
            interest.accept(_copy(message))
        if not chosen and message.reply:
            self._tell_nobody_listens(message, sender)

    def _tell_nobody_listens(self, message: Message, sender: Member) -> None:
        headers = {"Status": NO_RESPONDERS, "Nats-Subject": message.subject}
        for interest in self._interested(message.reply):
            if interest.owner is sender:
                interest.accept(Message(message.reply, b"", headers=headers))
                return

    def _chosen(self, subject: str) -> Iterator[Interest]:
        groups: dict[str, list[Interest]] = {}
        for interest in self._interested(subject):
            if interest.queue:
                groups.setdefault(interest.queue, []).append(interest)
            else:
                yield interest
        for members in groups.values():
            yield self._random.choice(members)

    def _interested(self, subject: str) -> Iterator[Interest]:
        for interest in self._exact.get(subject, ()):
            if interest.owner not in self._cut_off:
                yield interest
        for interest in self._wild:
            if interest.owner not in self._cut_off and matches(interest.pattern, subject):
                yield interest

    def _peers(self, interest: Interest) -> list[Interest]:
        if "*" in interest.pattern or ">" in interest.pattern:
            return self._wild
        return self._exact.setdefault(interest.pattern, [])


def _copy(message: Message) -> Message:
    return Message(message.subject, message.payload, message.reply, dict(message.headers))
