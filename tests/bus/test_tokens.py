"""`Tokens` behaves as the tuple of the same ids."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.tokens import MAX_TOKEN, Tokens

FEW = settings(max_examples=50)
_IDS = st.lists(st.integers(0, MAX_TOKEN), max_size=20)
_BOUND = st.none() | st.integers(-25, 25)


@FEW
@given(_IDS)
def test_ids_come_back_as_they_went_in(ids: list[int]) -> None:
    tokens = Tokens(ids)

    assert list(tokens) == ids
    assert len(tokens) == len(ids)
    assert Tokens.from_packed(tokens.packed) == tokens
    assert tokens.packed == b"".join(number.to_bytes(4, "little") for number in ids)


@FEW
@given(_IDS, _BOUND, _BOUND, st.none() | st.integers(-3, 3).filter(bool))
def test_slices_are_those_of_a_list(
    ids: list[int], begin: int | None, end: int | None, step: int | None
) -> None:
    part = Tokens(ids)[begin:end:step]

    assert list(part) == ids[begin:end:step]


@FEW
@given(_IDS, st.integers(-25, 25))
def test_an_index_is_that_of_a_list_or_out_of_range(ids: list[int], index: int) -> None:
    tokens = Tokens(ids)

    if -len(ids) <= index < len(ids):
        assert tokens[index] == ids[index]
    else:
        with pytest.raises(IndexError):
            _ = tokens[index]


@FEW
@given(_IDS, _IDS)
def test_sums_and_comparisons_are_those_of_lists(one: list[int], two: list[int]) -> None:
    assert list(Tokens(one) + Tokens(two)) == one + two
    assert (Tokens(one) == Tokens(two)) == (one == two)
    assert hash(Tokens(one)) == hash(Tokens(list(one)))
    assert Tokens(one) != one


@FEW
@given(_IDS)
def test_copies_are_equal(ids: list[int]) -> None:
    tokens = Tokens(ids)

    assert copy.deepcopy(tokens) == tokens == pickle.loads(pickle.dumps(tokens))


@pytest.mark.parametrize("ids", [[-1], [MAX_TOKEN + 1], ["a"], [1.5], [None], [2**70]])
def test_what_is_no_token_id_is_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="token ids are"):
        Tokens(ids)


@FEW
@given(st.binary(max_size=40))
def test_packed_bytes_are_refused_or_hold_token_ids(packed: bytes) -> None:
    try:
        tokens = Tokens.from_packed(packed)
    except ValueError:
        numbers = [packed[i : i + 4] for i in range(0, len(packed), 4)]
        assert len(packed) % 4 or any(number[3] >= 0x80 for number in numbers)
    else:
        assert Tokens(list(tokens)) == tokens


def test_tokens_cannot_be_changed_nor_followed_by_a_change_of_their_bytes() -> None:
    packed = bytearray(b"\x01\x00\x00\x00")
    tokens = Tokens.from_packed(bytes(packed))

    with pytest.raises(AttributeError):
        tokens.packed = b""
    packed[0] = 2
    assert list(tokens) == [1]


def test_bytes_are_an_iterable_of_ids_like_any_other() -> None:
    assert list(Tokens(b"ab")) == [97, 98]


def test_a_long_prompt_is_shown_by_its_beginning() -> None:
    assert repr(Tokens(range(20))) == "Tokens([0, 1, 2, 3, 4, 5, 6, 7, ...], len=20)"
    assert repr(Tokens([5])) == "Tokens([5], len=1)"
