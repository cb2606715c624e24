"""Strategies as the live page draws and shows them: source, versions, shares, diagram."""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from bus.codec import Undecodable, decode, encode
from bus.interface import BusError
from orchestrations.diagram import Diagram, Errand
from orchestrations.registry import FOLDER, names

from ..version_store import UnknownVersion, VersionStore
from ..versions import INSTALLED, Activation, Ref, Version

DRAWN_WITHIN_S: Final = 60.0
MAX_DIGITS: Final = 9
"""Of a version's number; Python reads no number of thousands of digits."""
MAX_DRAWN: Final = 64
"""Diagrams that are kept."""


class NotDrawn(Exception):
    """The strategy could not be walked."""


class VersionLine(Struct, frozen=True):
    """One version of a strategy, and how much of whose traffic it gets."""

    ref: str
    origin: str
    verdict: str
    serves: tuple[str, ...]
    """Such as ``10% of requests that name no orchestration``."""


class StrategyView(Struct, frozen=True):
    name: str
    ref: str
    """The version whose source this is."""
    source: str
    versions: tuple[VersionLine, ...]


class Strategies:
    """Reads the installed ones, and the versions at the broker where there is a store of them."""

    def __init__(self, versions: VersionStore | None) -> None:
        self._store = versions
        self._drawn: OrderedDict[str, Diagram] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def view(self, ref: Ref) -> StrategyView:
        """
        Raises:
            UnknownVersion: there is none.
        """
        versions, active = await self._versions(ref.name), await self._active()
        lines = [_installed(active, ref.name)] if ref.name in names() else []
        lines += [_line(active, version.ref, version) for version in versions]
        return StrategyView(ref.name, str(ref), await self._text(ref), tuple(lines))

    async def diagram(self, ref: Ref) -> Diagram:
        """
        Raises:
            UnknownVersion: there is none.
            NotDrawn: it could not be walked, or not in time.
        """
        text = await self._text(ref)
        async with self._one_at_a_time:
            if text not in self._drawn:
                self._drawn[text] = await _draw(Errand(ref.name, text))
                if len(self._drawn) > MAX_DRAWN:
                    self._drawn.popitem(last=False)
            self._drawn.move_to_end(text)
            return self._drawn[text]

    async def _text(self, ref: Ref) -> str:
        for version in await self._versions(ref.name) if ref.number != INSTALLED else ():
            if version.number == ref.number:
                return version.text
        if ref.number == INSTALLED and ref.name in names():
            path = FOLDER / f"{ref.name}.py"
            return await asyncio.to_thread(path.read_text, encoding="utf-8")
        raise UnknownVersion(ref.name, ref.number, [])

    async def _versions(self, name: str) -> Sequence[Version]:
        """Without the broker's store there are none."""
        try:
            return await self._store.versions(name) if self._store else ()
        except (BusError, Undecodable):
            return ()

    async def _active(self) -> list[tuple[str | None, Activation]]:
        """What was put into service, by slot; that of requests which name nothing first."""
        store = self._store
        if store is None:
            return []
        try:
            found = [(slot, await store.active(slot)) for slot in await store.slots()]
        except (BusError, Undecodable):
            return []
        active = [(slot, activation) for slot, activation in found if activation]
        return sorted(active, key=lambda line: line[0] or "")


def read_ref(text: str) -> Ref:
    """``disaggregated@3``, ``disaggregated@installed`` or ``disaggregated``.

    Raises:
        UnknownVersion: it is none of them.
    """
    name, _, number = text.partition("@")
    if number.isdecimal() and len(number) <= MAX_DIGITS:
        return Ref(name, int(number))
    if number in ("", "installed"):
        return Ref(name)
    raise UnknownVersion(text[:80], None, [])


def _installed(active: Sequence[tuple[str | None, Activation]], name: str) -> VersionLine:
    serves = _serves(active, Ref(name))
    if name not in {slot for slot, _ in active}:
        serves = (f"all requests for {name}", *serves)
    return VersionLine(str(Ref(name)), "installed", "", serves)


def _line(
    active: Sequence[tuple[str | None, Activation]], ref: Ref, version: Version
) -> VersionLine:
    return VersionLine(str(ref), version.origin, version.verdict, _serves(active, ref))


def _serves(active: Sequence[tuple[str | None, Activation]], ref: Ref) -> tuple[str, ...]:
    told: list[str] = []
    for slot, activation in active:
        whom = f"requests for {slot}" if slot else "requests that name no orchestration"
        share = _share(activation, ref)
        if share:
            told.append(f"{share:.0%} of {whom}")
    return tuple(told)


def _share(activation: Activation, ref: Ref) -> float:
    is_candidate, is_base = activation.candidate == ref, activation.base == ref
    return is_candidate * activation.share + is_base * (1 - activation.share)


async def _draw(errand: Errand) -> Diagram:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "orchestrations.diagram"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
        cwd="/",
    )
    complaint = b""
    try:
        async with asyncio.timeout(DRAWN_WITHIN_S):
            out, complaint = await child.communicate(encode(errand))
        return decode(out, Diagram)
    except TimeoutError:
        raise NotDrawn(f"{errand.name}: not drawn within {DRAWN_WITHIN_S:g} s") from None
    except Undecodable:
        why = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise NotDrawn(f"{errand.name} cannot be drawn: {why[:200]}") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
