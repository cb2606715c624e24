"""``python -m orchestrations [NAME | FILE]...``: check strategies, or draw them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .check import check
from .docs import write
from .machine import Strategy
from .mermaid import mermaid
from .registry import load, load_file, names
from .source import OrchestrationError


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 where a strategy is not fit or cannot be loaded."""
    options = _parser().parse_args(arguments)
    if options.write_docs:
        for path in write():
            print(f"written: {path}")
        return 0
    try:
        chosen = [_find(given) for given in options.strategies or names()]
    except OrchestrationError as error:
        print(error, file=sys.stderr)
        return 1
    return _draw(chosen) if options.draw else _check(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrations", description=__doc__)
    parser.add_argument("strategies", nargs="*", help="names or files; all of ours without any")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--draw", action="store_true", help="print Mermaid diagrams")
    what.add_argument("--write-docs", action="store_true", help="generate docs/ anew")
    return parser


def _find(given: str) -> Strategy:
    return load_file(Path(given)) if given.endswith(".py") else load(given)


def _draw(chosen: list[Strategy]) -> int:
    print("\n\n".join(mermaid(strategy) for strategy in chosen))
    return 0


def _check(chosen: list[Strategy]) -> int:
    verdicts = [check(strategy) for strategy in chosen]
    print("\n\n".join(map(str, verdicts)))
    return 0 if all(v.passed for v in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
