"""Kills, stops and other faults in the middle of real transfers: what leaks, what is wrong."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from bus.transfers import Arrived, Delivered, Fenced, PoolShape, SendFailed

from .kv_process import KvProcess, Raised
from .progress import rounds
from .report import AtMost, Figure, Result

_LANES: Final[dict[str, dict[str, str]]] = {"shared": {}, "tcp": {"TLS": "tcp"}}
"""UCX settings."""
SHAPE: Final = PoolShape(
    num_layers=4, num_pages=600, page_size=16, page_bytes=16384, fingerprint="faults"
)
OTHER: Final = PoolShape(
    num_layers=4, num_pages=600, page_size=16, page_bytes=32768, fingerprint="another"
)
COUNT: Final = 256
LONGEST_S: Final = 0.008
"""A transfer of 16 MiB takes about half of it: faults come before, in and after it."""


class Plan(Struct, frozen=True):
    faults: tuple[tuple[str, int], ...] = (("shared", 100), ("tcp", 50))
    """How many, by lane."""
    seed: int = 1
    lease_s: float = 1.0
    bound_s: float = 4.0
    """Until the survivors must have heard how it ended: noticing a death, or a lease and its
    fence."""


def run() -> Result:
    return measure(Plan())


def measure(plan: Plan) -> Result:
    ratios: dict[str, float] = {}
    figures: dict[str, Figure] = {}
    for lane, num_faults in plan.faults:
        trial = _tried(plan, lane, num_faults)
        ratios[f"{lane}_wrong_transfers"] = float(trial.wrong)
        ratios[f"{lane}_transfers_without_end"] = float(trial.leaked)
        figures[f"{lane}_faults"] = num_faults
        figures |= {f"{lane}_{kind}": count for kind, count in trial.counts.items()}
        for kind, seconds in trial.longest_s.items():
            figures[f"{lane}_longest_end_after_{kind}_s"] = seconds
    return Result("transport_faults", ratios, figures, dict.fromkeys(ratios, AtMost(0)))


def _tried(plan: Plan, lane: str, num_faults: int) -> _Trial:
    trial = _Trial(plan, _LANES[lane])
    try:
        for number in rounds(num_faults, f"faults over {lane}"):
            trial.fault(number)
    finally:
        trial.close()
    return trial


class _Trial:
    """A receiver and a sender, one of which suffers; then both serve on."""

    def __init__(self, plan: Plan, settings: dict[str, str]) -> None:
        self._random, self._settings = random.Random(plan.seed), settings
        self._lease_s, self._bound_s = plan.lease_s, plan.bound_s
        self._sender, self._receiver = self._start("sender"), self._start("receiver")
        self._sender.fill(7)
        self.wrong = self.leaked = 0
        self.counts: dict[str, int] = {}
        self.longest_s: dict[str, float] = {}

    def close(self) -> None:
        for process in (self._sender, self._receiver):
            if process.process.is_alive():
                process.kill()

    def fault(self, number: int) -> None:
        kinds: list[Callable[[], None]] = [
            self._kill_sender,
            self._kill_receiver,
            self._stop_sender,
            self._stop_receiver,
            self._leave_sender,
            self._leave_receiver,
            self._revoke,
            self._another_layout,
            self._no_memory,
        ]
        kind = kinds[number % len(kinds)]
        name = kind.__name__[1:]
        self._flow, self._pages = f"f{number}", self._random.sample(range(SHAPE.num_pages), COUNT)
        self._granted = self._random.sample(range(SHAPE.num_pages), COUNT)
        grant = self._receiver.grant(self._flow, self._granted)
        verb = self._random.choice(("send", "lend"))
        self._sender.begin(verb, self._flow, grant, self._pages)
        time.sleep(self._random.random() * LONGEST_S)
        self._broken_at = time.monotonic()
        kind()
        self._check(name)
        self.counts[name] = self.counts.get(name, 0) + 1
        self._serve_on(number)

    # --- faults ---------------------------------------------------------------------------------

    def _kill_sender(self) -> None:
        self._sender.kill()

    def _kill_receiver(self) -> None:
        self._receiver.kill()

    def _leave_sender(self) -> None:
        self._sender.leave()

    def _leave_receiver(self) -> None:
        self._receiver.leave()

    def _stop_sender(self) -> None:
        self._stop(self._sender)

    def _stop_receiver(self) -> None:
        self._stop(self._receiver)

    def _stop(self, process: KvProcess) -> None:
        process.signal(signal.SIGSTOP)
        time.sleep(1.5 * self._lease_s)
        self._broken_at = time.monotonic()
        process.signal(signal.SIGCONT)

    def _revoke(self) -> None:
        self._receiver.revoke(self._flow)

    def _another_layout(self) -> None:
        """Somebody else, whose pages do not fit, tries a grant of the same receiver."""
        grant = self._receiver.grant("other", [0])
        stranger = KvProcess("stranger", OTHER, self._lease_s, self._settings)
        try:
            stranger.send("other", grant, [0])
            self.wrong += 1
        except Raised as refused:
            self.wrong += refused.kind != "GrantRefused"
        stranger.leave()
        self._receiver.revoke("other")

    def _no_memory(self) -> None:
        """An engine whose pool cannot be registered says so and ends."""
        too_large = PoolShape(
            num_layers=1, num_pages=1 << 20, page_size=16, page_bytes=1 << 24, fingerprint="x"
        )
        try:
            KvProcess("giant", too_large)
            self.wrong += 1
        except Raised as refused:
            self.wrong += refused.kind != "UcxUnavailable"

    # --- what must be true afterwards -----------------------------------------------------------

    def _check(self, kind: str) -> None:
        if self._sender.process.is_alive():
            self._sender.end()
        if self._receiver.process.is_alive():
            self._ended(kind, self._receiver, (Arrived, Fenced))
        if self._sender.process.is_alive():
            self._ended(kind, self._sender, (Delivered, SendFailed))

    def _ended(self, kind: str, process: KvProcess, ends: tuple[type, ...]) -> None:
        while told := process.event(self._bound_s):
            at, event = told
            if event.flow == self._flow:
                break
        else:
            self.leaked += 1
            return
        assert isinstance(event, ends)
        took_s = max(at - self._broken_at, 0.0)
        self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), took_s)
        if isinstance(event, Arrived) and self._sender.process.is_alive():
            self.wrong += self._receiver.digest(self._granted) != self._sender.digest(self._pages)

    def _serve_on(self, number: int) -> None:
        """The survivor and whoever was started again transfer as if nothing had been."""
        if not self._sender.process.is_alive():
            self._sender = self._start("sender")
            self._sender.fill(number)
        if not self._receiver.process.is_alive():
            self._receiver = self._start("receiver")
        flow = f"after{number}"
        grant = self._receiver.grant(flow, self._granted)
        self._sender.send(flow, grant, self._pages)
        self._flow, self._broken_at = flow, time.monotonic()
        for process, ends in ((self._receiver, (Arrived,)), (self._sender, (Delivered,))):
            self._ended("nothing", process, ends)

    def _start(self, name: str) -> KvProcess:
        return KvProcess(name, SHAPE, self._lease_s, self._settings)
