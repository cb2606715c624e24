"""The ways in which a router may be asked to trace, each in a namespace of its own.

One process has a router for each of them, so that what differs between two ways is nothing else:
not the memory, not the hashes, not the connection.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from bus.subjects import Subjects
from observability.sampling import Sampling

VOCAB_SIZE: Final = 1000
"""Of the engines' model."""


class Way(Struct, frozen=True):
    name: str
    sampling: Sampling
    exports: bool = True
    """False where there is no collector."""

    @property
    def subjects(self) -> Subjects:
        return Subjects(f"bench-{self.name.replace('_', '-')}")


OFF: Final = Way("off", Sampling(0.0, follows_callers=False), exports=False)
TRACED: Final = (
    Way("none", Sampling(0.0)),
    Way("head_1_in_10", Sampling(0.1)),
    Way("tail", Sampling(0.0, failed=True)),
    Way("all", Sampling(1.0)),
)
WAYS: Final = (OFF, *TRACED)


class Account(Struct, frozen=True, tag=True):
    """A question: what was spent so far, once no span waits to be written any more."""


class Glance(Struct, frozen=True, tag=True):
    """A question: what was spent so far, at once."""


class Exported(Struct, frozen=True):
    """By one way's thread that exports."""

    cpu_s: float = 0.0
    num_spans: int = 0
    num_dropped: int = 0


class Spent(Struct, frozen=True):
    """CPU seconds of a router's process since its begin."""

    loop_s: float
    """All but the threads that export."""
    exported: dict[str, Exported]
    """By way."""
