"""Every way in which a context may be computed, moved and used again gives a lone engine's answer.

```
prompt  |<- cached at receiver ->|<- computed or cached at sender ->|<- computed at receiver ->|
```
"""

from __future__ import annotations

import pytest

from bus.messages import Commit, Committed, Matched, Query, Sent
from bus.tokens import Tokens
from bus.transfers import Arrived, Delivered

from .rig import Rig, events, pair, tokens

PROMPT = list(range(1, 42))


def alone(prompt: list[int] = PROMPT) -> list[int]:
    lone = Rig()
    return tokens([*lone.start("f", prompt), *lone.run()], "f")


def warm(rig: Rig, prompt: list[int]) -> None:
    """Have its full pages in the cache."""
    rig.start("warm", prompt, max_tokens=1)
    rig.run()


def carry(sender: Rig, receiver: Rig, end: int | None, flow: str = "f") -> Sent:
    """Prepare, send and hear; the context of ``prompt[:end]`` is then at the receiver."""
    grant = receiver.prepare(flow, PROMPT, end=end)
    sender.order(flow, sender.send(grant, PROMPT, end=end))
    sender.run()
    assert sender.network
    sender.network.settle()
    [sent] = events(sender.hear())
    receiver.hear()
    assert isinstance(sent, Sent)
    return sent


def answer(rig: Rig, begin: int, flow: str = "f") -> list[int]:
    return tokens([*rig.order(flow, rig.generate(PROMPT, begin=begin)), *rig.run()], flow)


def test_local_compute_only() -> None:
    _, a, _ = pair()

    assert answer(a, begin=0) == alone()


def test_full_remote() -> None:
    _, a, b = pair()

    carry(a, b, end=-1)

    assert answer(b, begin=40) == alone()
    assert b.statistics.prefill_tokens == 1


def test_matched_prefix_local_and_the_rest_remote() -> None:
    _, a, b = pair()
    warm(b, PROMPT[:21])

    sent = carry(a, b, end=-1)

    assert sent.num_pages == 5
    assert answer(b, begin=40) == alone()


def test_remote_prefix_and_local_tail() -> None:
    _, a, b = pair()

    carry(a, b, end=20)

    assert answer(b, begin=20) == alone()
    assert b.statistics.prefill_tokens == 21
    assert a.statistics.prefill_tokens == 20


@pytest.mark.parametrize("end", [40, -1])
def test_cached_on_the_sender_without_computing_anything(end: int) -> None:
    _, a, b = pair()
    warm(a, PROMPT)
    before = a.statistics.prefill_tokens

    sent = carry(a, b, end=end)

    assert sent.matched == 40
    assert a.statistics.prefill_tokens == before
    assert answer(b, begin=40) == alone()


def test_context_migration_with_no_new_token() -> None:
    _, a, b = pair()
    warm(a, PROMPT)

    carry(a, b, end=None)
    [committed] = events(b.order("f", Commit(b.name)))

    assert committed == Committed(40)
    b.assert_empty()
    assert answer(b, begin=0, flow="g") == alone()
    assert b.statistics.prefill_tokens == 1


def test_reuse_of_a_received_context_by_a_third_request() -> None:
    _, a, b = pair()
    carry(a, b, end=-1)
    first = answer(b, begin=40)
    before = b.statistics.prefill_tokens

    third = answer(b, begin=0, flow="third")

    assert first == third == alone()
    assert b.statistics.prefill_tokens == before + 1


@pytest.mark.parametrize("cached", [False, True])
def test_several_sends_in_one_batch_to_several_receivers(cached: bool) -> None:
    network, a, b = pair()
    receivers = [b, Rig(network, "c"), Rig(network, "d")]
    if cached:
        warm(a, PROMPT)
    before = a.statistics

    for receiver in receivers:
        grant = receiver.prepare(receiver.name, PROMPT)
        a.order(receiver.name, a.send(grant, PROMPT))
    a.step()
    together = len(network.opened)
    a.run()
    network.settle()
    a.hear()

    assert together == 3
    for receiver in receivers:
        receiver.hear()
        assert answer(receiver, begin=40, flow=receiver.name) == alone()
    assert a.statistics.prefill_tokens - before.prefill_tokens <= (0 if cached else 120)


def test_a_query_changes_nothing() -> None:
    _, a, _ = pair()
    warm(a, PROMPT)
    before = a.statistics

    [matched] = events(a.order("q", Query(a.name, Tokens(PROMPT))))

    assert isinstance(matched, Matched)
    assert matched.matched == 40
    assert a.statistics.cached_pages == before.cached_pages


def test_both_ends_are_told_by_their_own_transport() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.run()
    network.settle()

    assert [type(event) for event in network.events["a"]] == [Delivered]
    assert [type(event) for event in network.events["b"]] == [Arrived]
