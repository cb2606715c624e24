"""Grammars whose compiling ends when a test says: ``3 5 7`` is those tokens in that order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bus.messages import Grammar

from .constraint import Compiled, ConstraintFailed, Mask


class FakeCompiler:
    """A `Compiler` for the fake model."""

    def __init__(self, vocab_size: int, end_tokens: Iterable[int]) -> None:
        self._vocab_size, self._end_tokens = vocab_size, tuple(end_tokens)
        self.asked: list[tuple[str, int, Grammar]] = []

    def compile(self, flow: str, attempt: int, grammar: Grammar) -> None:
        self.asked.append((flow, attempt, grammar))

    def finish(self) -> list[Compiled]:
        """The events of everything that was asked, for the test to hand over."""
        asked, self.asked = self.asked, []
        return [Compiled(flow, attempt, *self._made(grammar)) for flow, attempt, grammar in asked]

    def _made(self, grammar: Grammar) -> tuple[FakeConstraint | None, str]:
        try:
            tokens = [int(word) for word in grammar.text.split()]
        except ValueError as error:
            return None, str(error)
        return FakeConstraint(tokens, self._end_tokens, self._vocab_size), ""


class FakeConstraint:
    """A `Constraint` that allows one token at a time, then the end tokens."""

    def __init__(self, tokens: list[int], end_tokens: tuple[int, ...], vocab_size: int) -> None:
        self._left, self._end_tokens, self._vocab_size = tokens, end_tokens, vocab_size

    def push(self, token: int) -> None:
        if self._left[:1] == [token]:
            self._left = self._left[1:]
        elif self._left or token not in self._end_tokens:
            raise ConstraintFailed(f"{token} is not allowed here")

    def allowed(self) -> Mask:
        bits = np.zeros(self._vocab_size, np.uint8)
        bits[self._left[:1] or list(self._end_tokens)] = 1
        return np.packbits(bits, bitorder="little")

    def copy(self) -> FakeConstraint:
        return FakeConstraint(self._left, self._end_tokens, self._vocab_size)
