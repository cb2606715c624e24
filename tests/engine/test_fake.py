"""The fakes are honest: a token depends on every byte of KV, and bytes move when the test says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import Sampling
from bus.transfers import Arrived, Delivered, Fenced, SendFailed
from bus.wire import GrantRefused
from engine.fake import Cost, FakeRunner, fake_card
from engine.fake_wire import FakeNetwork, FakeWire
from engine.runner import Choice, Ids, Row

PROMPT = np.arange(50, 61, dtype=np.int32)


def row(tokens: Ids, position: int, pages: list[int], history: Ids | None = None) -> Row:
    choices = () if history is None else (Choice(Sampling(), history, len(history)),)
    return Row(tokens, position, np.array(pages, np.int32), choices)


def next_token(runner: FakeRunner, pages: list[int]) -> int:
    """From what is in the pages, computing only the last token of the prompt again."""
    [[sampled]] = runner.run([row(PROMPT[10:], 10, pages, PROMPT)])
    return sampled.token


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.permutations(range(16)))
def test_the_token_does_not_depend_on_chunks_or_on_which_pages(
    sizes: list[int], pages: list[int]
) -> None:
    runner = FakeRunner(fake_card(num_pages=16))
    position = 0
    for size in sizes:
        end = min(position + size, 10)
        if end > position:
            runner.run([row(PROMPT[position:end], position, pages)])
        position = end
    runner.run([row(PROMPT[position:10], position, pages)]) if position < 10 else None

    assert [next_token(runner, pages)] == runner.continuation(PROMPT.tolist(), 1)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("slot", range(10))
def test_a_single_wrong_byte_changes_the_token(layer: int, slot: int) -> None:
    card = fake_card(num_pages=4)
    runner = FakeRunner(card)
    runner.run([row(PROMPT[:10], 0, [2, 0, 3])])
    page = [2, 0, 3][slot // 4]
    offset = (layer * 4 + page) * card.shape.page_bytes + slot % 4 * 8

    runner.memory[offset] ^= 1

    assert [next_token(runner, [2, 0, 3])] != runner.continuation(PROMPT.tolist(), 1)


def test_a_page_of_the_same_tokens_after_others_is_another_page() -> None:
    runner = FakeRunner(fake_card(num_pages=8))
    other = np.concatenate([[1, 2, 3, 4], PROMPT[4:10]]).astype(np.int32)
    runner.run([row(PROMPT[:10], 0, [0, 1, 2]), row(other, 0, [3, 4, 5])])

    assert next_token(runner, [0, 1, 2]) != next_token(runner, [0, 4, 2])


def test_two_rows_that_write_one_page_are_a_mistake() -> None:
    runner = FakeRunner(fake_card())

    with pytest.raises(AssertionError, match="two rows write page 1"):
        runner.run([row(PROMPT[:8], 0, [0, 1]), row(PROMPT[:8], 0, [2, 1])])


def test_a_row_that_reads_what_is_being_written_is_a_mistake() -> None:
    runner = FakeRunner(fake_card())

    with pytest.raises(AssertionError, match="reads page 0 while it is written"):
        runner.run([row(PROMPT[:4], 0, [0]), row(PROMPT[4:8], 4, [0, 1])])


def test_time_passes_as_the_cost_model_says_layer_by_layer() -> None:
    heard: list[float | int] = []
    runner = FakeRunner(fake_card(), cost=Cost(2.0, 0.25), advance=heard.append)

    runner.run([row(PROMPT[:8], 0, [0, 1])], on_layer=heard.append)

    assert heard == [2.0, 0, 2.0, 1]


def test_reading_what_came_before_costs_too() -> None:
    rows = [row(PROMPT[4:8], 4, [0, 1]), row(PROMPT[:3], 0, [2])]

    assert Cost(1.0, 0.5, 0.25).of(rows) == 1.0 + 7 * 0.5 + 4 * 0.25


def test_the_pool_may_lie_in_memory_of_others() -> None:
    card = fake_card(num_pages=4)
    memory = bytearray(card.shape.num_bytes)

    FakeRunner(card, memory).run([row(PROMPT[:4], 0, [1])])

    page = card.shape.page_bytes
    assert memory[:page] == memory[2 * page : 3 * page], "still garbage"
    assert memory[page : 2 * page] != memory[:page]


# --- the wire -----------------------------------------------------------------------------------


class Ends:
    """A sender and a receiver with other pool sizes, and a grant of tokens [4, 10)."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        cards = fake_card(num_pages=4), fake_card(num_pages=9)
        self.sender, self.receiver = (FakeRunner(card) for card in cards)
        self.a, self.b = (
            self.network.wire(name, runner.memory, runner.card.shape)
            for name, runner in (("a", self.sender), ("b", self.receiver))
        )
        self.grant = self.b.grant("f", 1, 4, 10, [7, 5])

    def send(self) -> None:
        self.a.open("f", 1, self.grant, 4, 10)
        for layer in range(2):
            self.a.write("f", 1, layer, 0, [2, 0])
        self.a.finish("f", 1)

    def heard(self) -> tuple[list[object], list[object]]:
        return list(self.network.events["a"]), list(self.network.events["b"])


def test_delivered_pages_hold_what_the_senders_pages_hold() -> None:
    ends = Ends()
    ends.sender.run([row(PROMPT[:10], 0, [1, 2, 0])])
    ends.receiver.run([row(PROMPT[:4], 0, [3])])
    ends.send()

    ends.network.settle()

    assert [next_token(ends.receiver, [3, 7, 5])] == ends.receiver.continuation(PROMPT.tolist(), 1)
    delivered, arrived = ends.heard()
    assert arrived == [Arrived("f", 1, 128)]
    assert [type(event) for event in delivered] == [Delivered]


def test_pages_are_read_when_they_are_carried_not_when_they_are_written() -> None:
    """So an engine that reuses pages too early sends the wrong bytes, as a real one would."""
    ends = Ends()
    ends.sender.run([row(PROMPT[:10], 0, [1, 2, 0])])
    ends.receiver.run([row(PROMPT[:4], 0, [3])])
    ends.send()
    ends.sender.run([row(PROMPT[:4], 0, [2])])

    ends.network.settle()

    assert [next_token(ends.receiver, [3, 7, 5])] != ends.receiver.continuation(PROMPT.tolist(), 1)


def test_a_revoked_grant_is_fenced_and_its_writer_fails() -> None:
    ends = Ends()
    ends.send()
    before = bytes(ends.receiver.memory)

    ends.b.revoke("f", 1)
    ends.network.settle()

    assert ends.heard() == ([SendFailed("f", 1, "aborted")], [Fenced("f", 1, "aborted")])
    assert bytes(ends.receiver.memory) == before
    assert not ends.network.actions()


def test_an_aborted_sending_fails_and_voids_the_grant() -> None:
    ends = Ends()
    ends.send()

    ends.a.abort("f", 1)
    ends.network.settle()

    assert ends.heard() == ([SendFailed("f", 1, "aborted")], [Fenced("f", 1, "aborted")])


def test_a_delivery_that_overtakes_a_revocation_counts() -> None:
    ends = Ends()
    ends.send()
    [sending] = ends.network.opened.values()

    ends.network.deliver(sending)
    ends.b.revoke("f", 1)
    ends.network.settle()

    assert [type(event) for side in ends.heard() for event in side] == [Delivered, Arrived]


def test_a_writer_is_cut_off_when_the_lease_runs_out() -> None:
    ends = Ends()
    ends.send()
    [granted] = ends.network.granted.values()

    ends.network.expire(granted)
    ends.network.fence(granted)

    reasons = "the grant was taken back"
    assert ends.heard() == ([SendFailed("f", 1, reasons)], [Fenced("f", 1, reasons)])


@pytest.mark.parametrize(
    ("grant", "begin", "end", "reason"),
    [
        (b"b/f/1", 0, 10, "bad_range"),
        (b"?", 4, 10, "bad_request"),
    ],
)
def test_a_grant_that_does_not_fit_is_refused(
    grant: bytes, begin: int, end: int, reason: str
) -> None:
    ends = Ends()

    with pytest.raises(GrantRefused) as refused:
        ends.a.open("f", 1, grant, begin, end)

    assert refused.value.reason == reason


def test_a_grant_that_is_over_fails_as_its_receiver_tells_it() -> None:
    ends = Ends()

    ends.a.open("f", 1, b"b/g/1", 4, 10)

    assert ends.heard() == ([SendFailed("f", 1, "no such grant: b'b/g/1'")], [])


def test_a_grant_is_used_once() -> None:
    ends = Ends()
    ends.send()

    with pytest.raises(GrantRefused, match="a writes with this grant already"):
        FakeWire(ends.network, "a").open("f", 2, ends.grant, 4, 10)


def test_calls_for_transfers_that_have_ended_are_ignored() -> None:
    ends = Ends()

    ends.a.abort("g", 1)
    ends.a.finish("g", 1)
    ends.a.write("g", 1, 0, 0, [1])
    ends.b.revoke("g", 1)

    assert ends.heard() == ([], [])
