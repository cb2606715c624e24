"""What an answer must look like: a grammar, compiled, says which tokens may come next."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bus.messages import Grammar

Mask: TypeAlias = NDArray[np.uint8]
"""Bit ``i % 8`` of byte ``i // 8``: whether token ``i`` may come next. At least one may."""


class ConstraintFailed(Exception):
    """The grammar became too complex to follow, or a token came that it does not allow."""


class Constraint(Protocol):
    """Follows one answer. Where the grammar may end or must, the model's end tokens may come."""

    def push(self, token: int) -> None:
        """The answer goes on with ``token``.

        Raises:
            ConstraintFailed
        """
        ...

    def allowed(self) -> Mask:
        """
        Raises:
            ConstraintFailed
        """
        ...

    def copy(self) -> Constraint:
        """Another answer that begins like this one."""
        ...


class Compiled(Struct, frozen=True):
    """A grammar of a request is ready, or is none."""

    flow: str
    attempt: int
    constraint: Constraint | None
    error: str = ""
    """What is wrong with the grammar, where ``constraint`` is None."""


class Compiler(Protocol):
    def compile(self, flow: str, attempt: int, grammar: Grammar) -> None:
        """Begin to compile; returns at once, and always ends in a `Compiled` event."""
        ...
