"""Every message survives the wire, and no bytes do more harm than `Undecodable`."""

from __future__ import annotations

from math import inf, nan
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.codec import Undecodable, decode, decode_public, encode, encode_json, is_json
from bus.messages import (
    Accepted,
    AnyCommand,
    Beat,
    Event,
    Followed,
    Order,
    Query,
    Refused,
    Report,
)
from bus.public import Batch, GenerateRequest, Reply
from bus.tokens import Tokens

from .invented import invented

Case: TypeAlias = tuple[type, Any]
"""A message type, and what it is decoded as."""

ORDER = Order("flow", 1, "router", Query("engine", Tokens([1, 2])))
WIRE: list[Case] = [
    *[(kind, kind) for kind in (Order, Report, Beat, Followed)],
    *[(kind, AnyCommand) for kind in get_args(AnyCommand)],
    *[(kind, Event) for kind in get_args(Event)],
    *[(kind, Accepted | Refused) for kind in (Accepted, Refused)],
]
PUBLIC: list[Case] = [
    (GenerateRequest, GenerateRequest),
    *[(kind, Reply) for kind in get_args(Reply)],
]
DECODED = [Order, Report, Event, GenerateRequest, Reply, Batch]


def _is_number(field: msgspec.structs.FieldInfo) -> bool:
    return get_origin(field.type) is Annotated


def _name(case: Case) -> str:
    return case[0].__name__


@pytest.mark.parametrize("case", WIRE + PUBLIC, ids=_name)
@settings(max_examples=8)
@given(st.data())
def test_every_message_comes_back_from_messagepack_as_it_was(
    case: Case, data: st.DataObject
) -> None:
    kind, decoded_as = case
    message = data.draw(invented(kind))

    for back in (decode(encode(message), decoded_as), decode_public(encode(message), decoded_as)):
        assert back == message
        assert type(back) is kind


@pytest.mark.parametrize("case", PUBLIC, ids=_name)
@settings(max_examples=8)
@given(st.data())
def test_every_public_message_comes_back_from_json_as_it_was(
    case: Case, data: st.DataObject
) -> None:
    kind, decoded_as = case
    message = data.draw(invented(kind))

    payload = encode_json(message)

    assert is_json(payload)
    assert decode_public(payload, decoded_as) == message


@settings(max_examples=10)
@given(invented(Batch))
def test_a_batch_comes_back_as_it_was(batch: Batch) -> None:
    assert decode(encode(batch), Batch) == batch


@settings(max_examples=200)
@given(st.binary(max_size=64), st.sampled_from(DECODED))
def test_random_bytes_are_undecodable_at_worst(payload: bytes, kind: Any) -> None:
    _decode_or_refuse(payload, kind)


@pytest.mark.parametrize("kind", [Order, GenerateRequest], ids=lambda kind: kind.__name__)
@settings(max_examples=10)
@given(st.data())
def test_a_damaged_message_is_undecodable_at_worst(kind: Any, data: st.DataObject) -> None:
    payload = encode(data.draw(invented(kind)))
    damage = data.draw(st.integers(1, 255))

    for position in range(len(payload)):
        changed = bytes([payload[position] ^ damage])
        _decode_or_refuse(payload[:position] + changed + payload[position + 1 :], kind)
        _decode_or_refuse(payload[:position], kind)


def _decode_or_refuse(payload: bytes, kind: Any) -> None:
    """Whatever was understood can be said again, and is understood in the same way."""
    for understand in (decode, decode_public):
        try:
            message = understand(payload, kind)
        except Undecodable:
            continue
        said = encode(message)
        assert encode(understand(said, kind)) == said  # messages may hold what equals nothing: nan


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81\xa1x" + b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\x04\x05abcd",
        b'{"x":' + b"[" * 100_000,
        b'{"flow":"\xff"}',
        b'{"flow":"\\ud800"}',
        b"{" * 100_000,
        b"[",
        b" ",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("kind", [Order, Reply, Batch], ids=str)
def test_hostile_bytes_are_undecodable(kind: Any, payload: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_public(payload, kind)


def test_an_error_names_the_field() -> None:
    with pytest.raises(Undecodable, match=r"\$\.max_tokens"):
        decode_public(b'{"prompt": "x", "max_tokens": "many"}', GenerateRequest)


def test_a_misspelt_field_of_a_request_is_refused() -> None:
    with pytest.raises(Undecodable, match="temprature"):
        decode_public(b'{"prompt": "x", "temprature": 1}', GenerateRequest)


def test_token_ids_that_are_negative_or_cut_off_are_refused() -> None:
    payload = encode(ORDER)
    packed = ORDER.command.prompt.packed if isinstance(ORDER.command, Query) else b""

    for bad in (packed[:-1] + b"\xff", packed[:4] + b"\x00\x00\x00\x80"):
        with pytest.raises(Undecodable, match=r"negative.*\$\.command\.prompt"):
            decode(payload.replace(packed, bad), Order)
    with pytest.raises(Undecodable, match="4 bytes each"):
        decode(payload.replace(b"\xc4\x08" + packed, b"\xc4\x07" + packed[:7]), Order)


def test_token_ids_travel_as_they_lie_in_memory() -> None:
    assert b"\xc4\x08\x01\x00\x00\x00\x02\x00\x00\x00" in encode(ORDER)


def test_unknown_fields_of_our_own_messages_are_ignored() -> None:
    """So that an old router understands a new engine."""
    assert decode(b"\x82\xa4type\xa8Accepted\xa3new\x01", Accepted) == Accepted()


def test_something_that_is_no_message_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="no wire form for object"):
        encode(object())


BEAT = Beat("e0", 1, "m", "both", 0, 1, 1, 16, 99, "c")
NUMBERS = [f.name for f in msgspec.structs.fields(Beat) if f.name != "epoch" and _is_number(f)]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_heartbeat_that_counts_or_measures_nonsense_is_refused(name: str) -> None:
    """Engines are kept in order by these: one that is neither less nor more would break it."""
    nonsense = [-1] if isinstance(getattr(BEAT, name), int) else [-0.5, nan, inf, -inf]
    for value in nonsense:
        with pytest.raises(Undecodable, match=rf"\$\.{name}"):
            decode(encode(msgspec.structs.replace(BEAT, **{name: value})), Beat)
