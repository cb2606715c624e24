"""Whether a subject is one that a subscription asked for."""

from __future__ import annotations

import re
from functools import lru_cache

_WILDCARDS = {"*": "[^.]+", ">": ".+"}


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[bytes]:
    """What fully matches the subjects that ``pattern`` stands for, as bytes.

    ``*`` stands for exactly one token, ``>`` at the end for one or more.
    """
    tokens = [_WILDCARDS.get(token, re.escape(token)) for token in pattern.split(".")]
    return re.compile(r"\.".join(tokens).encode())


def matches(pattern: str, subject: str) -> bool:
    return compiled(pattern).fullmatch(subject.encode()) is not None
