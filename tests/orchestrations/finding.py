"""What the check finds in a strategy that a test has made a mistake in on purpose."""

from __future__ import annotations

from typing import Final

from orchestrations.check import Finding, check
from orchestrations.machine import Strategy
from orchestrations.shapes import Shape, shape

ONE: Final = shape("1 both", 16)
PAIR: Final = shape("1 prefill, 1 decode", 16)
TWO_DECODERS: Final = shape("1 prefill, 2 decode", 16)


def found(strategy: Strategy, problem: str, *shapes: Shape, max_worlds: int = 5_000) -> Finding:
    """The finding of a kind with the shortest path; fails where there is none."""
    verdict = check(strategy, shapes or (PAIR,), max_worlds)
    assert not verdict.passed
    problems = [f.problem for f in verdict.findings]
    assert problem in problems
    return verdict.findings[problems.index(problem)]
