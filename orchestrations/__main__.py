"""``python -m orchestrations [NAME | FILE]...``: check strategies, or draw them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .docs import write
from .machine import Strategy
from .mermaid import mermaid
from .registry import load, load_file, names, policy_names
from .sandbox import check_any_file, path_of
from .source import OrchestrationError
from .svg import svg


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 where a strategy is not fit or cannot be loaded."""
    options = _parser().parse_args(arguments)
    if options.write_docs:
        for path in write():
            print(f"written: {path}")
        return 0
    chosen = options.strategies or names()
    try:
        if options.draw or options.svg:
            draw = svg if options.svg else mermaid
            print("\n\n".join(draw(_find(given)) for given in chosen))
            return 0
        return _check(options.strategies or names() + policy_names())
    except OrchestrationError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrations", description=__doc__)
    parser.add_argument("strategies", nargs="*", help="names or files; all of ours without any")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--draw", action="store_true", help="print Mermaid diagrams")
    what.add_argument("--svg", action="store_true", help="print SVG diagrams")
    what.add_argument("--write-docs", action="store_true", help="generate docs/ anew")
    return parser


def _find(given: str) -> Strategy:
    return load_file(Path(given)) if given.endswith(".py") else load(given)


def _check(chosen: Sequence[str]) -> int:
    """Each in a process of its own, its verdict at once."""
    fit = True
    for number, path in enumerate([path_of(given) for given in chosen]):
        verdict = check_any_file(path)
        print(f"\n{verdict}" if number else verdict, flush=True)
        fit = fit and verdict.passed
    return 0 if fit else 1


if __name__ == "__main__":
    sys.exit(main())
