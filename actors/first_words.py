"""What a child of a fleet says on its standard output as it comes up: how far it is, and that it
is ready."""

from __future__ import annotations

import sys

from engine.progress import Progress

_LOADING = b"loading"


def say_ready(name: str) -> None:
    sys.stdout.write(f"ready {name}\n")
    sys.stdout.flush()


def loading() -> Progress:
    """Says how much is loaded, a line for each percent at most."""
    told = -1

    def report(done: int, of: int) -> None:
        nonlocal told
        percent = 100 * done // max(of, 1)
        if percent != told:
            told = percent
            sys.stdout.write(f"{_LOADING.decode()} {done} {of}\n")
            sys.stdout.flush()

    return report


def loaded(line: bytes) -> tuple[int, int] | None:
    """What a line of `loading` says; None for any other."""
    match line.split():
        case [word, done, of] if word == _LOADING and done.isdigit() and of.isdigit():
            return int(done), int(of)
    return None
