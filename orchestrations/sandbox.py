"""Check a strategy's file in a process of its own, which can hurt nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from shutil import which
from signal import SIGKILL, SIGXCPU

from msgspec import Struct

from bus.codec import Undecodable, decode, encode

from .check import Finding, Verdict
from .explore import MAX_WORLDS
from .policies import Objection, PolicyVerdict
from .registry import FOLDER, UnknownOrchestration, holds_policy, names, policy_names
from .rules import Fault, Problem
from .source import BadStrategy, defines_policy, defines_strategy, parse, require_pure


class Limits(Struct, frozen=True):
    """What a check may use."""

    cpu_s: int = 120
    memory_mib: int = 2048
    call_s: float = 1.0
    """One call of the strategy."""
    max_worlds: int = MAX_WORLDS


class Errand(Struct, frozen=True):
    """What the child is given."""

    path: str
    text: str
    limits: Limits
    known: tuple[str, ...] | None = None
    """The strategies that a policy may name; None: it is no policy."""


class BadFile(Struct, frozen=True, tag=True):
    """The file raised while it was loaded."""

    path: str
    why: str
    line: int


def path_of(given: str) -> Path:
    """The file of a strategy or policy that is named, or given as a file.

    Raises:
        UnknownOrchestration: there is none of this name.
    """
    if given.endswith(".py"):
        return Path(given)
    known = names() + policy_names()
    if given not in known:
        raise UnknownOrchestration(given, known)
    return FOLDER / f"{given}.py"


def check_file(path: Path, limits: Limits = Limits()) -> Verdict:  # noqa: B008 - frozen
    """The verdict on the strategy that a file holds. Nothing of the file is executed here.

    The child has no network where the system lets us take it away, may open no file, socket or
    process once the strategy runs, and has so much time and memory and no more.

    Raises:
        BadStrategy: the file cannot be read, is not Python, imports what it may not, or has no
            such function.
    """
    text = _read(path)
    require_pure(str(path), tree := parse(str(path), text))
    if not defines_strategy(tree, path.stem):
        wanted = f"{path.stem}(state, event) -> Step, or {path.stem}(request, fleet) -> str"
        raise BadStrategy(str(path), f"it must define {wanted}")
    answer = _answer(path, Errand(str(path), text, limits))
    if isinstance(answer, Verdict):
        return answer
    assert isinstance(answer, Fault)
    finding = Finding(answer.problem, answer.message, "every shape", ())
    return Verdict(path.stem, (), 0, 0, None, exhaustive=False, findings=(finding,))


def check_policy_file(path: Path, known: Sequence[str], limits: Limits = Limits()) -> PolicyVerdict:  # noqa: B008 - frozen
    """The verdict on the policy that a file holds, found as by `check_file`. ``known`` are the
    strategies that it may name.

    Raises:
        BadStrategy: as from `check_file`.
    """
    text = _read(path)
    require_pure(str(path), tree := parse(str(path), text))
    if not defines_policy(tree, path.stem):
        raise BadStrategy(str(path), f"it must define {path.stem}(request, fleet) -> str")
    answer = _answer(path, Errand(str(path), text, limits, tuple(known)))
    if isinstance(answer, PolicyVerdict):
        return answer
    assert isinstance(answer, Fault)
    return PolicyVerdict(path.stem, 0, (), (Objection(answer, "everything"),))


def check_any_file(path: Path, more_names: Sequence[str] = ()) -> Verdict | PolicyVerdict:
    """The verdict on whichever of both a file holds. A policy may name what is installed, and
    ``more_names``.

    Raises:
        BadStrategy: as from `check_file`.
    """
    if holds_policy(_read(path), path):
        return check_policy_file(path, (*names(), *more_names))
    return check_file(path)


def _answer(path: Path, errand: Errand) -> Verdict | PolicyVerdict | Fault:
    """What the child says, or why it says nothing."""
    limits = errand.limits
    try:
        done = subprocess.run(
            [*_without_network(), sys.executable, "-I", "-m", "orchestrations.sandboxed"],
            input=encode(errand),
            capture_output=True,
            timeout=2 * limits.cpu_s + 10,
            env={},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _no_end("stalls", f"no end after {2 * limits.cpu_s + 10} s")
    if done.returncode in (-SIGXCPU, -SIGKILL, 128 + SIGXCPU, 128 + SIGKILL):
        return _no_end("stalls", f"it used up {limits.cpu_s} s of processor time")
    try:
        answer = decode(done.stdout, Verdict | PolicyVerdict | BadFile)
    except Undecodable:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return _no_end("no_verdict", f"status {done.returncode}: {last[:200]}")
    if isinstance(answer, BadFile):
        raise BadStrategy(answer.path, answer.why, answer.line)
    return answer


def _no_end(problem: Problem, message: str) -> Fault:
    return Fault(problem, f"the check came to no end: {message}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadStrategy(str(path), f"cannot be read: {error}") from None


@cache
def _without_network() -> Sequence[str]:
    """What to put before a command, so that it has no network: a name space of its own, where the
    system has the tool and permits it."""
    tool = which("unshare")
    for options in (("--net",), ("--map-root-user", "--net")) if tool else ():
        command: list[str] = [str(tool), *options]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return ()
