"""``python -m orchestrations.sandboxed``: the child that checks one file; see `sandbox`."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from types import FrameType
from typing import Final

from bus.codec import decode, encode
from bus.fleet import Fleet
from bus.messages import Event, Request

from .check import Verdict, check
from .explore import ReachesOut, TooSlow
from .machine import State, Step, Strategy
from .policies import Policy, PolicyVerdict, check_policy
from .registry import FOLDER, load_policy_text, load_text
from .sandbox import BadFile, Errand, Limits
from .source import ALLOWED_MODULES, BadStrategy

FORBIDDEN: Final = ("ctypes.", "import", "open", "os.", "shutil.", "socket.", "subprocess.")
"""What the interpreter announces (`sys.audit`) before it reaches for something outside."""


class _Guard:
    """The strategy, watched while it runs: it may think for so long, and reach for nothing."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._armed = False
        sys.addaudithook(self._announced)
        signal.signal(signal.SIGALRM, self._rang)

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._limits.call_s, 0.05)
        self._armed = True

    def __exit__(self, *_: object) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def watched_policy(self, policy: Policy) -> Policy:
        def watched(request: Request, fleet: Fleet) -> str:
            with self:
                return policy(request, fleet)

        watched.__name__ = policy.__name__
        return watched

    def watched(self, strategy: Strategy) -> Strategy:
        def watched(state: State, event: Event) -> Step:
            with self:
                return strategy(state, event)

        watched.__name__ = strategy.__name__
        watched.__annotations__ = {**strategy.__annotations__}
        watched.__wrapped__ = strategy  # type: ignore[attr-defined]
        return watched

    def _announced(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._armed and event.startswith(FORBIDDEN):
            about = f" of {arguments[0]!r:.80}" if arguments else ""
            raise ReachesOut(f"{event}{about}: a strategy reads its arguments and nothing else")

    def _rang(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            raise TooSlow(f"no answer after {self._limits.call_s:g} s")


def main() -> None:
    errand = decode(sys.stdin.buffer.read(), Errand)
    answer = _answer(errand)
    os.write(1, encode(answer))


def _answer(errand: Errand) -> Verdict | PolicyVerdict | BadFile:
    _import_everything()
    _limit(errand.limits)
    guard = _Guard(errand.limits)
    try:
        if errand.known is not None:
            with guard:
                policy = load_policy_text(errand.text, errand.path)
            return check_policy(guard.watched_policy(policy), errand.known)
        with guard:
            strategy = load_text(errand.text, errand.path)
    except BadStrategy as bad:
        return BadFile(bad.path, bad.why, bad.line)
    except (TooSlow, ReachesOut, MemoryError) as error:
        return BadFile(errand.path, f"while it was loaded: {error or 'out of memory'}", 0)
    return check(guard.watched(strategy), max_worlds=errand.limits.max_worlds)


def _import_everything() -> None:
    """What a strategy may import is here already when it does: no file need be opened then."""
    for name in sorted(ALLOWED_MODULES):
        importlib.import_module(name)
    for path in sorted(FOLDER.glob("[!_]*.py")):
        if path.stem != "sandboxed":
            importlib.import_module(f"{__package__}.{path.stem}")


def _limit(limits: Limits) -> None:
    bytes_ = limits.memory_mib << 20
    for what, most in (
        (resource.RLIMIT_AS, bytes_),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
