"""Every guarantee in `bus.interface`, one by one, on both implementations."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from bus.checks import BadHeader
from bus.discovery import BadService
from bus.interface import (
    BadSubject,
    Bus,
    BusError,
    Disconnected,
    Message,
    NoResponders,
    PayloadTooLarge,
    RequestTimedOut,
    Service,
)

from .parties import Connect, Echo, Gate, Listener, reach

# --- delivery -----------------------------------------------------------------------------------


async def test_a_message_arrives_as_it_was_sent(connect: Connect, root: str) -> None:
    listener = Listener()
    async with connect() as sender, connect() as receiver:
        await receiver.subscribe(f"{root}.hello", listener)

        await sender.publish(
            f"{root}.hello", b"\x00\xffbytes", reply="some.reply", headers={"traceparent": "00-ab"}
        )

        assert await listener.wait_for(1) == [
            Message(f"{root}.hello", b"\x00\xffbytes", "some.reply", {"traceparent": "00-ab"})
        ]


async def test_a_message_without_reply_and_headers_has_empty_ones(
    connect: Connect, root: str
) -> None:
    listener = Listener()
    async with connect() as bus:
        await bus.subscribe(root, listener)

        await bus.publish(root, b"")

        assert await listener.wait_for(1) == [Message(root, b"", "", {})]


async def test_messages_of_one_publisher_arrive_once_and_in_order(
    connect: Connect, root: str
) -> None:
    listener = Listener()
    async with connect() as sender, connect() as receiver:
        await receiver.subscribe(f"{root}.*", listener)

        for number in range(1000):
            await sender.publish(f"{root}.{number % 7}", str(number).encode())
        await sender.publish(f"{root}.last", b"last")

        await listener.wait_for(1001)
        assert listener.payloads == [str(number).encode() for number in range(1000)] + [b"last"]


async def test_every_subscription_without_a_queue_group_gets_its_own_copy(
    connect: Connect, root: str
) -> None:
    first, second, third = Listener(), Listener(), Listener()
    async with connect() as bus, connect() as other:
        await bus.subscribe(root, first)
        await bus.subscribe(root, second)
        await other.subscribe(root, third)

        await bus.publish(root, b"x")

        for listener in (first, second, third):
            await listener.wait_for(1)
            assert listener.payloads == [b"x"]


async def test_of_a_queue_group_exactly_one_member_gets_each_message(
    connect: Connect, root: str
) -> None:
    members = [Listener() for _ in range(3)]
    witness = Listener()
    async with connect() as bus, connect() as other:
        await bus.subscribe(root, members[0], queue="workers")
        await other.subscribe(root, members[1], queue="workers")
        await other.subscribe(f"{root}", members[2], queue="workers")
        await other.subscribe(root, witness)

        for number in range(200):
            await bus.publish(root, str(number).encode())
        await witness.wait_for(200)
        await reach(lambda: sum(len(member.heard) for member in members) >= 200)
        await other.flush()

        heard = sorted(int(payload) for member in members for payload in member.payloads)
        assert heard == list(range(200))
        assert all(member.heard for member in members)


async def test_two_queue_groups_and_a_pattern_each_get_a_message(
    connect: Connect, root: str
) -> None:
    one, two, pattern = Listener(), Listener(), Listener()
    async with connect() as bus:
        await bus.subscribe(f"{root}.a", one, queue="one")
        await bus.subscribe(f"{root}.*", two, queue="two")
        await bus.subscribe(f"{root}.>", pattern)

        await bus.publish(f"{root}.a", b"x")

        for listener in (one, two, pattern):
            await listener.wait_for(1)


async def test_members_of_a_queue_group_may_subscribe_with_different_patterns(
    connect: Connect, root: str
) -> None:
    exact, pattern, witness = Listener(), Listener(), Listener()
    async with connect() as bus:
        await bus.subscribe(f"{root}.a", exact, queue="q")
        await bus.subscribe(f"{root}.*", pattern, queue="q")
        await bus.subscribe(f"{root}.a", witness)

        for _ in range(50):
            await bus.publish(f"{root}.a", b"x")
        await witness.wait_for(50)
        await reach(lambda: len(exact.heard) + len(pattern.heard) >= 50)
        await bus.flush()

        assert len(exact.heard) + len(pattern.heard) == 50


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a.*", ["a.b", "a.c"], ["a", "a.b.c", "b.b"]),
        ("*.b", ["a.b"], ["a.a", "b"]),
        ("a.>", ["a.b", "a.b.c"], ["a", "b.a"]),
        ("*", ["a"], ["a.b"]),
        (">", ["a", "a.b", "a.b.c"], []),
        ("a.*.c", ["a.b.c"], ["a.b", "a.b.d", "a.b.c.d"]),
        ("a.*.>", ["a.b.c", "a.b.c.d"], ["a.b"]),
    ],
)
async def test_wildcards_match_what_they_should(
    connect: Connect, root: str, pattern: str, matching: list[str], others: list[str]
) -> None:
    listener = Listener()
    async with connect() as bus:
        await bus.subscribe(f"{root}.{pattern}", listener)
        await bus.subscribe(f"end.{root}", listener)

        for subject in others + matching:
            await bus.publish(f"{root}.{subject}", b"")
        await bus.flush()

        await listener.wait_for(len(matching))
        await bus.flush()
        assert [message.subject for message in listener.heard] == [f"{root}.{s}" for s in matching]


async def test_a_subscription_is_known_to_the_broker_when_subscribe_returns(
    connect: Connect, root: str
) -> None:
    async with connect() as sender, connect() as receiver:
        for number in range(50):
            listener = Listener()
            await receiver.subscribe(f"{root}.{number}", listener)

            await sender.publish(f"{root}.{number}", b"x")

            await listener.wait_for(1)


async def test_flush_returns_after_the_broker_has_everything(connect: Connect, root: str) -> None:
    listener = Listener()
    async with connect() as sender, connect() as receiver:
        await receiver.subscribe(root, listener)

        for _ in range(100):
            await sender.publish(root, b"x" * 1000)
        await sender.flush()
        await receiver.flush()  # its answer comes behind the messages on the same connection

        await reach(lambda: len(listener.heard) == 100)


async def test_a_cancelled_flush_harms_nobody(connect: Connect, root: str) -> None:
    async with connect() as bus:
        await bus.subscribe(root, Echo(bus))
        flushes = [asyncio.create_task(bus.flush()) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for flush in flushes:
            flush.cancel()
        await asyncio.gather(*flushes, return_exceptions=True)

        await bus.flush()

        assert (await bus.request(root, b"still here", timeout_s=5)).payload == b"still here"


async def test_publishing_never_calls_a_handler_itself(connect: Connect, root: str) -> None:
    """A handler that publishes to itself would otherwise never return."""
    order: list[str] = []
    async with connect() as bus:

        async def handler(message: Message) -> None:
            order.append("handled")

        await bus.subscribe(root, handler)
        await bus.publish(root, b"")
        order.append("published")
        await reach(lambda: len(order) == 2)

    assert order == ["published", "handled"]


async def test_a_busy_publisher_lets_others_work(connect: Connect, root: str) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connect() as bus:
        task = asyncio.create_task(other())
        for _ in range(1000):
            await bus.publish(root, b"x")
        task.cancel()
        await asyncio.wait([task])

    assert turns > 5


async def test_a_busy_subscription_lets_others_work(connect: Connect, root: str) -> None:
    turns_between: list[int] = []
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handler(message: Message) -> None:
        turns_between.append(turns)

    async with connect() as bus:
        await bus.subscribe(root, handler)
        task = asyncio.create_task(other())
        for _ in range(1000):
            await bus.publish(root, b"x")
        await reach(lambda: len(turns_between) == 1000)
        task.cancel()
        await asyncio.wait([task])

    assert len(set(turns_between)) > 5


# --- requests -----------------------------------------------------------------------------------


async def test_a_request_returns_the_reply(connect: Connect, root: str) -> None:
    async with connect() as client, connect() as server:
        await server.subscribe(root, Echo(server))

        reply = await client.request(root, b"ping", timeout_s=5, headers={"a": "b"})

        assert (reply.payload, reply.headers) == (b"ping", {"a": "b"})


async def test_concurrent_requests_get_their_own_replies(connect: Connect, root: str) -> None:
    async with connect() as client, connect() as server:
        await server.subscribe(root, Echo(server))

        replies = await asyncio.gather(
            *(client.request(root, str(n).encode(), timeout_s=5) for n in range(100))
        )

        assert [reply.payload for reply in replies] == [str(n).encode() for n in range(100)]


async def test_only_the_first_reply_counts(connect: Connect, root: str) -> None:
    async with connect() as client, connect() as server:

        async def twice(message: Message) -> None:
            await server.publish(message.reply, b"first")
            await server.publish(message.reply, b"second")

        await server.subscribe(root, twice)

        assert (await client.request(root, b"", timeout_s=5)).payload == b"first"
        assert (await client.request(root, b"", timeout_s=5)).payload == b"first"


async def test_nobody_listening_is_told_at_once(connect: Connect, root: str) -> None:
    async with connect() as bus:
        async with asyncio.timeout(5):
            with pytest.raises(NoResponders) as caught:
                await bus.request(f"{root}.nobody", b"", timeout_s=60)

    assert caught.value.subject == f"{root}.nobody"


async def test_a_silent_listener_is_a_timeout(connect: Connect, root: str) -> None:
    async with connect() as bus:
        await bus.subscribe(root, Listener())

        with pytest.raises(RequestTimedOut) as caught:
            await bus.request(root, b"", timeout_s=0.02)

    assert (caught.value.subject, caught.value.timeout_s) == (root, 0.02)


async def test_a_cancelled_request_is_cancelled_and_harms_nobody(
    connect: Connect, root: str
) -> None:
    gate = Gate()
    async with connect() as bus:
        await bus.subscribe(root, gate)
        request = asyncio.create_task(bus.request(root, b"", timeout_s=60))
        await asyncio.wait_for(gate.begun.wait(), 5)

        request.cancel()

        with pytest.raises(asyncio.CancelledError):
            await request
        gate.open.set()
        with pytest.raises(NoResponders):
            await bus.request(f"{root}.nobody", b"", timeout_s=5)


async def test_publishing_with_a_reply_to_nobody_is_told_to_the_reply_subject(
    connect: Connect, root: str
) -> None:
    """What a client with its own mailbox relies on where no router runs."""
    listener = Listener()
    async with connect() as bus:
        mailbox = bus.inbox()
        await bus.subscribe(mailbox, listener)

        await bus.publish(f"{root}.nobody", b"hello", reply=mailbox)

        [heard] = await listener.wait_for(1)
        assert (heard.subject, heard.payload) == (mailbox, b"")
        assert heard.headers["Status"] == "503"
        assert heard.headers["Nats-Subject"] == f"{root}.nobody"


# --- handlers -----------------------------------------------------------------------------------


async def test_a_handler_runs_one_message_at_a_time(connect: Connect, root: str) -> None:
    running = most = handled = 0

    async def handler(message: Message) -> None:
        nonlocal running, most, handled
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        handled += 1

    async with connect() as bus:
        await bus.subscribe(root, handler)
        for _ in range(20):
            await bus.publish(root, b"")
        await reach(lambda: handled == 20)

    assert most == 1


async def test_a_slow_handler_holds_up_no_other_subscription(connect: Connect, root: str) -> None:
    gate, listener = Gate(), Listener()
    async with connect() as bus:
        await bus.subscribe(root, gate)
        await bus.subscribe(root, listener)

        await bus.publish(root, b"1")
        await bus.publish(root, b"2")

        await listener.wait_for(2)
        assert gate.passed == []
        gate.open.set()


async def test_a_failing_handler_is_logged_and_counted_and_gets_the_next_message(
    connect: Connect, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[bytes] = []

    async def handler(message: Message) -> None:
        handled.append(message.payload)
        if message.payload == b"bad":
            raise ValueError("no good")

    async with connect() as bus:
        subscription = await bus.subscribe(root, handler)
        for payload in (b"good", b"bad", b"better"):
            await bus.publish(root, payload)
        await reach(lambda: len(handled) == 3)

        assert subscription.statistics().failed == 1
    assert "no good" in caplog.text
    assert root in caplog.text


async def test_a_handler_that_waited_for_a_cancelled_task_counts_as_failed(
    connect: Connect, root: str
) -> None:
    handled: list[bytes] = []

    async def handler(message: Message) -> None:
        handled.append(message.payload)
        if message.payload == b"bad":
            raise asyncio.CancelledError

    async with connect() as bus:
        subscription = await bus.subscribe(root, handler)
        await bus.publish(root, b"bad")
        await bus.publish(root, b"good")
        await reach(lambda: len(handled) == 2)

        assert subscription.statistics().failed == 1


async def test_what_a_slow_handler_cannot_hold_is_dropped_and_counted(
    connect: Connect, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="microserve.bus")
    gate = Gate()
    async with connect() as bus:
        subscription = await bus.subscribe(root, gate, max_pending=3)
        await bus.publish(root, b"0")
        await asyncio.wait_for(gate.begun.wait(), 5)

        for number in range(1, 11):
            await bus.publish(root, str(number).encode())
        await reach(lambda: subscription.statistics().received == 11)

        statistics = subscription.statistics()
        assert (statistics.pending, statistics.dropped) == (3, 7)
        assert bus.statistics().dropped == 7
        assert "too slow" in caplog.text
        gate.open.set()
        await reach(lambda: len(gate.passed) == 4)
    assert gate.passed == [b"0", b"1", b"2", b"3"]


# --- unsubscribing ------------------------------------------------------------------------------


async def test_nothing_arrives_after_unsubscribe(connect: Connect, root: str) -> None:
    listener = Listener()
    async with connect() as bus:
        subscription = await bus.subscribe(root, listener)
        await bus.publish(root, b"before")
        await listener.wait_for(1)

        await subscription.unsubscribe()
        await subscription.unsubscribe()

        with pytest.raises(NoResponders):
            await bus.request(root, b"after", timeout_s=5)
    assert listener.payloads == [b"before"]


async def test_unsubscribe_awaits_the_handler_and_discards_what_waits(
    connect: Connect, root: str
) -> None:
    gate = Gate()
    async with connect() as bus:
        subscription = await bus.subscribe(root, gate)
        await bus.publish(root, b"in progress")
        await bus.publish(root, b"waiting")
        await asyncio.wait_for(gate.begun.wait(), 5)
        await bus.flush()

        unsubscribe = asyncio.create_task(subscription.unsubscribe())
        await bus.flush()
        assert not unsubscribe.done()
        gate.open.set()
        await asyncio.wait_for(unsubscribe, 5)

        await bus.flush()
    assert gate.passed == [b"in progress"]


async def test_a_handler_may_unsubscribe_itself_and_finish_its_work(
    connect: Connect, root: str
) -> None:
    handled: list[bytes] = []
    done = asyncio.Event()

    async with connect() as bus:

        async def handler(message: Message) -> None:
            await subscription.unsubscribe()
            await bus.flush()
            handled.append(message.payload)
            done.set()

        subscription = await bus.subscribe(root, handler)
        await bus.publish(root, b"1")
        await bus.publish(root, b"2")
        await asyncio.wait_for(done.wait(), 5)

        with pytest.raises(NoResponders):
            await bus.request(root, b"3", timeout_s=5)
    assert handled == [b"1"]


async def test_unsubscribing_after_the_bus_was_left_does_nothing(
    connect: Connect, root: str
) -> None:
    async with connect() as bus:
        subscription = await bus.subscribe(root, Listener())

    await subscription.unsubscribe()


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "a.*",
        "a.>",
        "*",
        ">",
        "a b",
        "a..b",
        ".a",
        "a.",
        "a\r\nPUB x 0\r\n",
        "a\tb",
        "é",
        "a" * 80_000,
    ],
)
async def test_nobody_can_publish_to_an_absurd_subject(
    connect: Connect, root: str, subject: str
) -> None:
    async with connect() as bus:
        await bus.subscribe(root, Echo(bus))

        with pytest.raises(BadSubject):
            await bus.publish(subject, b"")
        with pytest.raises(BadSubject):
            await bus.request(subject, b"", timeout_s=1)
        if subject:
            with pytest.raises(BadSubject):
                await bus.publish(root, b"", reply=subject)

        assert (await bus.request(root, b"alive", timeout_s=5)).payload == b"alive"


@pytest.mark.parametrize("subject", ["", "a.*b", "a.>.b", ">>", "a b", "a..b", "a.", "a" * 80_000])
async def test_nobody_can_subscribe_to_an_absurd_subject(connect: Connect, subject: str) -> None:
    async with connect() as bus:
        with pytest.raises(BadSubject):
            await bus.subscribe(subject, Listener())


async def test_a_queue_group_and_a_bound_must_make_sense(connect: Connect, root: str) -> None:
    async with connect() as bus:
        with pytest.raises(BadSubject):
            await bus.subscribe(root, Listener(), queue="two words")
        with pytest.raises(ValueError, match="at least 1"):
            await bus.subscribe(root, Listener(), max_pending=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("a b", "x"), ("", "x"), ("a:b", "x"), ("a", "x\r\ny: z"), ("a", " x"), ("a", "é")],
)
async def test_a_header_that_would_not_arrive_as_it_is_is_refused(
    connect: Connect, root: str, name: str, value: str
) -> None:
    async with connect() as bus:
        with pytest.raises(BadHeader):
            await bus.publish(root, b"", headers={name: value})


async def test_a_message_of_exactly_the_limit_passes_and_one_byte_more_is_refused(
    connect: Connect, root: str
) -> None:
    async with connect() as bus:
        await bus.subscribe(root, Echo(bus))
        largest = bytes(bus.max_payload)

        with pytest.raises(PayloadTooLarge) as caught:
            await bus.publish(root, largest + b"x")

        assert caught.value.num_bytes == caught.value.max_payload + 1 == len(largest) + 1
        assert len((await bus.request(root, largest, timeout_s=5)).payload) == len(largest)


async def test_headers_count_towards_the_limit(connect: Connect, root: str) -> None:
    """A broker cuts the connection of a client that forgets them."""
    headers = {"traceparent": "00-" + "a" * 50, "b": "c"}
    num_bytes = len("NATS/1.0\r\ntraceparent: 00-\r\nb: c\r\n\r\n") + 50
    async with connect() as bus:
        await bus.subscribe(root, Echo(bus))
        largest = bytes(bus.max_payload - num_bytes)

        with pytest.raises(PayloadTooLarge):
            await bus.publish(root, largest + b"x", headers=headers)

        reply = await bus.request(root, largest, timeout_s=5, headers=headers)
        assert len(reply.payload) == len(largest)


# --- the rest -----------------------------------------------------------------------------------


async def test_inboxes_are_unique_and_are_subjects(connect: Connect) -> None:
    async with connect() as bus, connect() as other:
        inboxes = [maker.inbox() for maker in (bus, other) for _ in range(100)]
        listener = Listener()
        await bus.subscribe(inboxes[0], listener)

        await other.publish(inboxes[0], b"x")

        await listener.wait_for(1)
    assert len(set(inboxes)) == 200


async def test_leaving_lets_handlers_see_what_has_arrived(connect: Connect, root: str) -> None:
    gate = Gate()
    async with connect() as bus:
        await bus.subscribe(root, gate)
        for number in range(3):
            await bus.publish(root, str(number).encode())
        await asyncio.wait_for(gate.begun.wait(), 5)
        gate.open.set()

    assert gate.passed == [b"0", b"1", b"2"]


async def test_what_handlers_say_while_a_bus_is_left_still_gets_out(
    connect: Connect, root: str
) -> None:
    listener = Listener()
    async with connect() as other:
        await other.subscribe(f"{root}.answer", listener)
        async with connect() as bus:
            gate = Gate()

            async def handler(message: Message) -> None:
                await gate(message)
                await bus.publish(f"{root}.answer", message.payload)

            await bus.subscribe(root, handler)
            await bus.publish(root, b"x")
            await asyncio.wait_for(gate.begun.wait(), 5)
            gate.open.set()

        await listener.wait_for(1)


async def test_a_bus_is_of_no_use_before_and_after(connect: Connect, root: str) -> None:
    bus = connect()
    with pytest.raises(Disconnected, match="not entered"):
        await bus.publish(root, b"")
    async with bus:
        await bus.flush()

    for use in (
        bus.publish(root, b""),
        bus.request(root, b"", timeout_s=1),
        bus.subscribe(root, Listener()),
        bus.flush(),
    ):
        with pytest.raises(Disconnected, match="closed"):
            await use
    assert not bus.statistics().connected


async def test_leaving_twice_does_nothing(connect: Connect) -> None:
    bus = connect()
    async with bus:
        await bus.close()

    await bus.close()


async def test_statistics_count_messages_and_bytes(connect: Connect, root: str) -> None:
    listener = Listener()
    async with connect() as bus:
        subscription = await bus.subscribe(root, listener)
        await bus.publish(root, b"12345")
        await bus.publish(root, b"678", headers={"a": "b"})
        await listener.wait_for(2)

        statistics = bus.statistics()
        assert statistics.connected
        assert (statistics.published, statistics.published_bytes) == (2, 8)
        assert (statistics.received, statistics.dropped, statistics.reconnects) == (2, 0, 0)
        assert subscription.statistics().subject == root
        assert subscription.statistics().received == 2
        assert subscription.statistics().pending == 0


async def _survey(bus: Bus, subject: str) -> dict[str, Any]:
    reply = await bus.request(subject, b"", timeout_s=5)
    return msgspec.json.decode(reply.payload, type=dict[str, Any])


async def test_an_announced_service_answers_the_brokers_discovery(
    connect: Connect, root: str
) -> None:
    async with connect() as bus, connect() as curious:
        await bus.announce(Service(root, "1.2.3", "serves", {"role": "prefill"}))

        ping = await _survey(curious, f"$SRV.PING.{root}")
        info = await _survey(curious, f"$SRV.INFO.{root}.{ping['id']}")
        stats = await _survey(curious, f"$SRV.STATS.{root}")

        assert ping["type"] == "io.nats.micro.v1.ping_response"
        assert (ping["name"], ping["version"]) == (root, "1.2.3")
        assert ping["metadata"] == {"role": "prefill"}
        assert info["type"] == "io.nats.micro.v1.info_response"
        assert (info["description"], info["endpoints"]) == ("serves", [])
        assert stats["type"] == "io.nats.micro.v1.stats_response"
        assert stats["started"].endswith("Z")


async def test_all_announced_services_answer_a_general_ping(connect: Connect, root: str) -> None:
    listener = Listener()
    async with connect() as one, connect() as two, connect() as curious:
        await one.announce(Service(root, "1.0.0"))
        await two.announce(Service(root, "1.0.0"))
        inbox = curious.inbox()
        await curious.subscribe(inbox, listener)

        await curious.publish("$SRV.PING", b"", reply=inbox)

        await listener.wait_for(2)
        answers = [msgspec.json.decode(payload) for payload in listener.payloads]
        assert len({answer["id"] for answer in answers}) == 2


async def test_an_announcement_ends_with_its_bus(connect: Connect, root: str) -> None:
    async with connect() as curious:
        async with connect() as bus:
            await bus.announce(Service(root, "1.0.0"))

        with pytest.raises(NoResponders):
            await curious.request(f"$SRV.PING.{root}", b"", timeout_s=5)


@pytest.mark.parametrize(
    ("name", "version"), [("two words", "1.0.0"), ("a.b", "1.0.0"), ("a", "new")]
)
async def test_a_service_that_cannot_be_listed_is_refused(
    connect: Connect, name: str, version: str
) -> None:
    async with connect() as bus:
        with pytest.raises(BadService):
            await bus.announce(Service(name, version))


def test_all_errors_are_of_one_family() -> None:
    for kind in (BadHeader, BadService, BadSubject, Disconnected, NoResponders, PayloadTooLarge):
        assert issubclass(kind, BusError)
