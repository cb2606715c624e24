"""Copies of ledgers, and what their future depends on, without knowing their states by name.

A field that ends in ``_at`` is a time; times are counted from a lease ago, and what is longer past
is equal. No number in a key is negative: Python gives -1 and -2 the same hash.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, cast

import numpy as np
from msgspec import Struct

from kvtransport.granted import Offer
from kvtransport.grants import Grant
from kvtransport.ledger import Ledger

LEASE_S: Final = 2
HALF_LEASE_S: Final = 1
REPORTED: Final = {
    *("begun_at", "finished_at", "num_bytes", "num_runs", "read_s", "write_s"),
    *("reason", "remote"),
}
"""What only ends up in events, or follows from the rest."""
_Thing = TypeVar("_Thing")
_CONSTANT: Final = {"_home", "_shape", "_life", "_lease_s"}
_CHANGING: Final = {list, np.ndarray}
_PLAIN: Final = {type(None), bool, int, float, str, bytes, tuple}


def fork(ledger: Ledger, idle: str) -> Ledger:
    """One that goes its own way. States that are frozen are shared, and so is the half that is
    ``idle``: a walk's engines only receive, or only send."""
    new = _copy(ledger)
    for name, half in vars(ledger).items():
        if name == idle:
            continue
        new_half = _copy(half)
        for field, value in vars(half).items():
            if isinstance(value, dict):
                setattr(new_half, field, {k: _fork(v) for k, v in value.items()})
        setattr(new, name, new_half)
    return new


def _copy(thing: _Thing) -> _Thing:
    new = object.__new__(type(thing))
    vars(new).update(vars(thing))
    return new


def _fork(state: Any) -> Any:
    if not is_dataclass(state):
        return state
    kind: Any = type(state)
    new = object.__new__(kind)
    for name in kind.__slots__:
        value = getattr(state, name)
        setattr(new, name, value.copy() if type(value) in _CHANGING else value)
    return new


def key_of(ledger: Ledger, now: float) -> Hashable:
    return tuple(
        [
            tuple([_key(v, now) for name, v in vars(half).items() if name not in _CONSTANT])
            for half in vars(ledger).values()
        ]
    )


def _key(value: Any, now: float) -> Hashable:
    if type(value) in _PLAIN:
        plain: Hashable = value
        return plain
    match value:
        case Grant() | Offer():
            return value.serial, getattr(value, "epoch", 0)
        case np.ndarray():
            return value.tobytes()
        case dict():
            return tuple([(k, _key(v, now)) for k, v in value.items()])
        case list():
            return len(value)
        case Enum():
            return value.name
        case _:
            names = _names(cast(Any, type(value)))
            return type(value), *[_field(value, name, now) for name in names]


def _field(value: Any, name: str, now: float) -> Hashable:
    content = getattr(value, name)
    if name.endswith("_at"):
        return float(max(content - now + LEASE_S, 0))
    return _key(content, now)


@cache
def _names(kind: Any) -> tuple[str, ...]:
    if issubclass(kind, Struct):
        names = kind.__struct_fields__
    else:
        names = tuple(field.name for field in fields(kind))
    return tuple(name for name in names if name not in REPORTED)
