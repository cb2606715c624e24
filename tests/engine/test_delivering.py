"""`RemoteSend`: which pages are written when, and whose they are until the transfer has ended."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bus.messages import Refused, Release, Released, RemoteSend, Sent, Suspend
from bus.tokens import Tokens
from bus.transfers import Delivered
from engine.fake import fake_card
from engine.fake_wire import FakeNetwork, Opened

from .rig import Rig, deltas, events, pair, phases, reason, small, tokens

PROMPT = list(range(1, 19))


def opened(network: FakeNetwork) -> Opened:
    [transfer] = network.opened.values()
    return transfer


def numbers(transfer: Opened) -> list[tuple[int, int, int]]:
    """(layer, first granted page, pages) of each write."""
    return [(layer, first, len(pages)) for layer, first, pages in transfer.writes]


def test_pages_are_written_layer_by_layer_with_the_chunk_that_completes_them() -> None:
    network, _, b = pair()
    a = Rig(network, "c", config=small(prefill_chunk=6))
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))

    a.step()
    assert numbers(opened(network)) == [(0, 0, 1), (1, 0, 1)]
    a.step()
    assert numbers(opened(network))[2:] == [(0, 1, 2), (1, 1, 2)]
    assert not opened(network).finished
    a.step()
    assert numbers(opened(network))[4:] == [(0, 3, 2), (1, 3, 2)]
    assert opened(network).finished


def test_what_is_cached_is_written_at_once_in_all_layers_and_not_computed() -> None:
    network, a, b = pair()
    a.start("warm", PROMPT, max_tokens=1)
    a.run()
    grant = b.prepare("f", PROMPT)
    before = a.statistics.prefill_tokens

    a.order("f", a.send(grant, PROMPT))
    a.run()

    assert numbers(opened(network)) == [(0, 0, 4), (1, 0, 4), (0, 4, 1), (1, 4, 1)]
    assert a.statistics.prefill_tokens == before + 1


def test_what_is_wholly_cached_is_sent_without_computing() -> None:
    network, a, b = pair()
    a.start("warm", PROMPT, max_tokens=1)
    a.run()
    steps = a.statistics.prefill_tokens
    grant = b.prepare("f", PROMPT, end=16)

    a.order("f", a.send(grant, PROMPT, end=16))
    a.run()

    assert opened(network).lent
    assert a.statistics.prefill_tokens == steps
    network.settle()
    [sent] = events(a.hear())
    assert isinstance(sent, Sent)
    assert sent.matched == 16


def test_only_pages_from_begin_on_are_written() -> None:
    network, a, b = pair()
    b.start("warm", PROMPT[:9], max_tokens=1)
    b.run()
    grant = b.prepare("f", PROMPT)
    assert grant.matched == 8

    a.order("f", a.send(grant, PROMPT))
    a.run()

    assert numbers(opened(network)) == [(0, 0, 2), (1, 0, 2), (0, 2, 1), (1, 2, 1)]
    network.settle()
    b.hear()
    b.start("f", PROMPT)
    assert tokens(b.run(), "f") == b.runner.continuation(PROMPT, 8)


def test_the_end_tells_what_was_sent_and_how() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.run()
    network.settle()

    outcomes = a.hear()

    assert events(outcomes) == [
        Sent(320, 0.5, "memory", 0.25, matched=0, num_pages=5, num_runs=10, write_s=0.125)
    ]
    assert phases(outcomes) == ["queue", "prefill", "prefill", "transfer"]


def test_pages_stay_until_delivered_and_are_cached_then() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.run()
    assert (a.statistics.used_pages, a.statistics.sending) == (5, 1)

    network.settle()
    a.hear()

    a.assert_empty()
    assert a.statistics.cached_pages == 4


def test_a_failed_transfer_is_told_and_its_pages_are_dropped() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.step()
    network.fail(opened(network), "the link broke")

    outcomes = a.hear()

    assert events(outcomes) == [Refused("RemoteSend", "transfer_failed", "the link broke")]
    assert a.run() == []
    a.assert_empty()


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("delivered", [True, False])
def test_releasing_waits_until_the_transport_reads_no_more(steps: int, delivered: bool) -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    for _ in range(steps):
        a.step()
    if delivered and opened(network).finished:
        network.deliver(opened(network))

    assert a.order("f", Release("a")) == []
    assert a.run() == []
    network.settle()

    assert events(a.hear()) == [Released()]
    a.assert_empty()


def test_a_transfer_that_arrived_before_its_release_did_is_told_with_the_release() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.run()

    assert a.order("f", Release("a")) == []
    network.deliver(opened(network))
    outcomes = a.hear()

    assert events(outcomes) == [Released()]
    assert phases(outcomes) == ["queue", "prefill", "prefill", "transfer"]


def test_a_transfer_that_a_release_broke_off_tells_how_far_it_was() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.step()

    a.order("f", Release("a"))
    network.settle()

    assert phases(a.hear()) == ["queue", "prefill"]


def test_many_transfers_share_a_batch_with_requests() -> None:
    network, a, b = pair()
    prompts = {f"f{n}": list(range(n, n + 9 + n)) for n in range(4)}
    for flow, prompt in prompts.items():
        a.order(flow, a.send(b.prepare(flow, prompt), prompt))
        a.start(f"own-{flow}", prompt, max_tokens=4)
        b.start(flow, prompt, max_tokens=6)

    outcomes = a.run()
    network.settle()
    b.hear()
    a.hear()
    received = b.run()

    for flow, prompt in prompts.items():
        assert tokens(outcomes, f"own-{flow}") == a.runner.continuation(prompt, 4)
        assert tokens(received, flow) == b.runner.continuation(prompt, 6)
    a.assert_empty()
    b.assert_empty()


def test_a_suspended_request_moves_to_another_engine_and_goes_on_there() -> None:
    network, a, b = pair()
    a.start("f", PROMPT, max_tokens=12)
    so_far = tokens(a.step() + a.step() + a.step() + a.step(), "f")
    a.order("f", Suspend("a"))
    prompt = [*PROMPT, *so_far]

    grant = b.prepare("f", prompt)
    a.order("f", a.send(grant, prompt))
    b.order("f", replace(b.generate(prompt, max_tokens=12), offset=len(so_far)))
    a.run()
    network.settle()
    a.hear()
    b.hear()
    a.order("f", Release("a"))

    rest = [delta.tokens[0] for delta in deltas(b.run())]
    assert so_far + rest == a.runner.continuation(PROMPT, 12)
    assert a.statistics.prefill_tokens <= len(PROMPT) + 3
    a.assert_empty()
    b.assert_empty()


@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        (4, 4, "nothing to send"),
        (3, 10, "inside a page of 4 tokens"),
        (0, 19, "0 <= begin <= end <= 18"),
        (12, 8, "0 <= begin <= end <= 18"),
    ],
)
def test_a_range_that_cannot_be_sent_is_refused(begin: int, end: int, words: str) -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)

    [event] = events(a.order("f", RemoteSend("a", Tokens(PROMPT), grant.grant, begin, end)))

    assert isinstance(event, Refused)
    assert event.reason == "bad_range"
    assert words in event.message
    assert not network.opened


def test_what_the_transport_refuses_is_refused_with_its_reason() -> None:
    _, a, b = pair()
    grant = b.prepare("f", PROMPT)

    other = RemoteSend("a", Tokens(PROMPT), grant.grant, 0, 8)
    nonsense = RemoteSend("a", Tokens(PROMPT), b"?", 0, 8)

    assert reason(a.order("f", other)) == "bad_range"
    assert reason(a.order("g", nonsense)) == "bad_request"
    a.assert_empty()


def test_without_a_transport_nothing_is_sent() -> None:
    rig = Rig()

    assert reason(rig.order("f", RemoteSend("a", Tokens(PROMPT), b"", 0))) == "not_supported"


def test_one_attempt_cannot_receive_and_send_here() -> None:
    _, a, b = pair()
    grant = b.prepare("f", PROMPT)
    mine = a.prepare("f", PROMPT)
    assert mine.matched == 0

    assert reason(a.order("f", a.send(grant, PROMPT))) == "out_of_order"


def test_a_prefill_to_be_sent_begins_only_when_it_has_all_its_pages() -> None:
    """Two halves in one pool would wait for each other, since neither can be taken back."""
    network = FakeNetwork()
    a, b = Rig(network, "a", fake_card(num_pages=8)), Rig(network, "b")
    long = list(range(200, 224))
    for flow, prompt in (("f", PROMPT), ("g", long)):
        a.order(flow, a.send(b.prepare(flow, prompt), prompt))

    a.run()
    assert (a.statistics.running, a.statistics.waiting) == (0, 1)
    network.settle()
    assert isinstance(events(a.hear())[0], Sent)

    a.run()
    network.settle()
    assert isinstance(events(a.hear())[0], Sent)
    a.assert_empty()


def test_a_delivery_that_nobody_knows_is_ignored() -> None:
    _, a, _ = pair()

    assert a.event(Delivered("f", 1, 1, 1, 0.0, 0.0, "memory")) == []
