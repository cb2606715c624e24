"""An answer ends once, for the right reason, with all of its text and none that is not its own."""

from __future__ import annotations

from codecs import getincrementaldecoder

from engine.answer import Answer, Ending


class Utf8:
    """Every token is a byte."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(bytes([token]))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


def answer(*stops: str, end_tokens: tuple[int, ...] = (0,), max_tokens: int = 99) -> Answer:
    return Answer(Ending(frozenset(end_tokens), stops, max_tokens), Utf8())


def test_a_character_comes_whole() -> None:
    answering = answer()

    assert [answering.push(byte) for byte in "é!".encode()] == ["", "é", "!"]
    assert answering.reason is None


def test_an_end_token_counts_but_is_no_text_and_brings_what_was_held_back() -> None:
    answering = answer("END")

    texts = [answering.push(byte) for byte in b"xEN\0"]

    assert texts == ["x", "", "", "EN"]
    assert (answering.reason, answering.num_tokens) == ("stop", 4)


def test_the_last_token_allowed_brings_half_a_character_as_a_replacement() -> None:
    answering = answer(max_tokens=2)

    assert [answering.push(byte) for byte in b"x\xc3"] == ["x", "\ufffd"]
    assert answering.reason == "length"


def test_a_stop_string_in_the_last_token_allowed_is_a_stop() -> None:
    answering = answer("b", max_tokens=2)

    assert [answering.push(byte) for byte in b"ab"] == ["a", ""]
    assert answering.reason == "stop"


def test_replayed_tokens_leave_the_answer_where_the_other_engine_left_it() -> None:
    alone, resumed = answer("END"), answer("END")
    texts = [alone.push(byte) for byte in b"the ENd"]

    resumed.replay(b"the EN")

    assert resumed.push(ord("d")) == texts[-1] == "ENd"
    assert resumed.num_tokens == 7


def test_an_answer_that_was_over_is_over_after_the_replay() -> None:
    answering = answer()

    answering.replay(b"ab\0")

    assert answering.reason == "stop"
