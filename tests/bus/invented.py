"""Makes up a value of any type that travels, so that a test of all messages forgets none."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from bus.tokens import MAX_TOKEN, Tokens

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: _TEXT,
    bytes: st.binary(max_size=8),
    bool: st.booleans(),
    NoneType: st.none(),
    Any: st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT,
        lambda values: st.lists(values, max_size=2) | st.dictionaries(_TEXT, values, max_size=2),
        max_leaves=4,
    ),
    Tokens: st.lists(st.integers(0, MAX_TOKEN), max_size=8).map(Tokens),
}


def invented(kind: Any) -> st.SearchStrategy[Any]:
    """Values of ``kind``: a Struct, or what a Struct's field may be."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return st.one_of(*map(invented, arguments))
    if origin is Annotated:
        return _within(*arguments)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return _tuples(arguments)
    if origin is dict:
        return st.dictionaries(*map(invented, arguments), max_size=3)
    return _structs(kind)


def _within(kind: type, bounds: msgspec.Meta) -> st.SearchStrategy[Any]:
    if kind is int:
        return st.integers(int(bounds.ge or 0), 2**63 - 1)
    return st.floats(bounds.ge, bounds.le)


def _tuples(arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if arguments[-1] is Ellipsis:
        return st.lists(invented(arguments[0]), max_size=3).map(tuple)
    return st.tuples(*map(invented, arguments))


def _structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: invented(field.type) for field in fields})
