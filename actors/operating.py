"""What an operator does with versions of strategies: load, activate, roll back, look back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from bus.codec import encode_json
from bus.interface import BusError
from bus.jetstream import JetStreamBuckets
from bus.nats import NatsBus
from orchestrations.registry import (
    UnknownOrchestration,
    load,
    load_file,
    load_text,
    names,
    policy_names,
)
from orchestrations.source import OrchestrationError

from .examining import NotFit, examine
from .recordings import RecordingStore
from .replay import lines, replay
from .settings import Settings
from .version_store import VersionStore
from .versions import INSTALLED, Activation, Ref, Version

LOOK_EVERY_S: Final = 0.3


@asynccontextmanager
async def store(settings: Settings, url: str) -> AsyncIterator[VersionStore]:
    async with NatsBus(url, name="microserve-orchestrations") as bus:
        yield await VersionStore.open(JetStreamBuckets(bus), settings.namespace)


async def add(versions: VersionStore, path: Path) -> Version:
    """Check a file and store it as the next version of the strategy or policy that it is named
    after.

    Raises:
        NotFit: it is not stored.
    """
    while True:
        text = await asyncio.to_thread(_read, path)
        verdict = await examine(path, await _served(versions))
        if text == await asyncio.to_thread(_read, path):  # it was this text that was checked
            return await versions.add(path.stem, text, path.name, verdict)


async def _served(versions: VersionStore) -> list[str]:
    """The names that something was activated for, and which are served by it still."""
    active = {slot: await versions.active(slot) for slot in await versions.slots() if slot}
    return [slot for slot, now in active.items() if now and _is_there(now.candidate)]


async def load_and_tell(settings: Settings, url: str, path: Path) -> None:
    async with store(settings, url) as versions:
        version = await add(versions, path)
        click.echo(version.verdict)
        click.echo(f"loaded {version.ref}; microserve orchestrations activate {version.ref}")


async def activate(
    settings: Settings, url: str, wanted: str, share: float, is_default: bool
) -> None:
    name, number = parse_ref(wanted)
    async with store(settings, url) as versions:
        version = _installed(name) if number == 0 else (await versions.find(name, number)).ref
        slot = None if is_default else name
        click.echo(describe(slot, await versions.activate(slot, version, share)))


def _installed(name: str) -> Ref:
    """Raises: UnknownOrchestration"""
    if not _is_there(Ref(name)):
        raise UnknownOrchestration(name, names() + policy_names())
    return Ref(name)


async def roll_back(settings: Settings, url: str, name: str | None) -> None:
    async with store(settings, url) as versions:
        click.echo(describe(name, await versions.roll_back(name)))


async def show_history(
    settings: Settings, url: str, name: str | None, as_json: bool = False
) -> None:
    async with store(settings, url) as versions:
        slots = [name] if name else sorted(await versions.slots(), key=lambda s: s or "")
        changes = [(slot, change) for slot in slots for change in await versions.history(slot)]
    if not changes:
        raise click.ClickException("nothing was ever activated: what is installed serves")
    for slot, change in changes:
        if as_json:
            click.echo(encode_json({"slot": slot, "change": change}))
            continue
        at = datetime.fromtimestamp(change.at_s).strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"{at}  {describe(slot, change.activation)}  ({change.activation.reason})")


async def show_replay(settings: Settings, url: Callable[[], str], flow: str, other: str) -> None:
    """Print how a recorded flow goes through the strategy that it had, or another."""
    recordings = RecordingStore(settings.recordings)
    recording = recordings.find(flow)
    recordings.close()
    name = other or f"{recording.orchestration}@{recording.version}"
    if name.endswith(".py"):
        strategy = load_file(name)
    else:
        plain, number = parse_ref(name)
        if number in (0, None):
            strategy = load(plain)
        else:
            async with store(settings, url()) as versions:
                version = await versions.find(plain, number)
            strategy = load_text(version.text, f"{plain}.py")
    for line in lines(replay(recording, strategy), name.removesuffix("@0")):
        click.echo(line)


async def watch_files(
    versions: VersionStore, paths: Sequence[Path], say: Callable[[str], None]
) -> None:
    """Put each file into service now, and again whenever it is saved, until cancelled. One that is
    not fit is told of, and what served before goes on; it is tried again when another has come into
    service, since a policy may name that one."""
    seen: dict[Path, int] = {}
    unfit: set[Path] = set()
    while True:
        for path in paths:
            saved = _saved_ns(path)
            if not saved or seen.get(path) == saved:
                continue
            seen[path] = saved
            if not await _put_into_service(versions, path, say):
                unfit.add(path)
                continue
            for other in unfit - {path}:
                del seen[other]
            unfit.clear()
        await asyncio.sleep(LOOK_EVERY_S)


async def _put_into_service(versions: VersionStore, path: Path, say: Callable[[str], None]) -> bool:
    """Whether it serves now."""
    try:
        version = await add(versions, path)
        now = await versions.active(path.stem)
        if now is None or (now.candidate, now.share) != (version.ref, 1.0):
            now = await versions.activate(path.stem, version.ref)
        say(f"{path}: {describe(path.stem, now)}")
        return True
    except (NotFit, OrchestrationError, BusError, OSError) as error:
        say(f"{path} is not put into service: {error}")
        return False


def _saved_ns(path: Path) -> int:
    """When it was; 0 where it cannot be seen now, as between the two halves of an editor's save."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFit(f"{path} cannot be read: {error}") from None


def parse_ref(text: str) -> tuple[str, int | None]:
    """``NAME``, ``NAME@VERSION`` or ``NAME@installed``, which is version 0.

    Raises:
        click.UsageError: it is none of them.
    """
    name, at, number = text.partition("@")
    if not at:
        return name, None
    if number == "installed":
        return name, 0
    if not number.isdecimal():
        raise click.UsageError(f"{text!r}: give NAME, NAME@3 or NAME@installed")
    return name, int(number)


def parse_share(text: str) -> float:
    """``10%`` or ``0.1``.

    Raises:
        click.UsageError: it is no number.
    """
    number, percent, _ = text.partition("%")
    try:
        return float(number) / (100 if percent else 1)
    except ValueError:
        raise click.UsageError(f"--share {text!r}: give 10% or 0.1") from None


def describe(slot: str | None, activation: Activation) -> str:
    whom = f"requests for {slot}" if slot else "requests that name no orchestration"
    return f"{whom}: {_shares(activation)}"


def _shares(activation: Activation) -> str:
    candidate, base = activation.candidate, activation.base
    if not _is_there(candidate):
        return f"refused, since no version of {candidate.name} serves and none is installed"
    if activation.share == 1:
        return f"{candidate}"
    if not _is_there(base):
        return f"{candidate}, all of them: nothing else serves this name"
    return f"{candidate} {activation.share:.0%}, the rest {base}"


def _is_there(ref: Ref) -> bool:
    """As far as one can tell here, where the program is the same as the routers'."""
    return ref.number != INSTALLED or ref.name in ("", *names(), *policy_names())
