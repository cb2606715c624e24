"""Strategies are swapped while requests are served, and a bad one costs nobody anything."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from actors.client import RequestRejected
from actors.replay import replay
from actors.version_store import VersionStore
from actors.versions import Ref
from bus.fleet import Role
from bus.interface import Message
from bus.memory import MemoryBus
from bus.public import GenerateRequest
from observability import names as span_names
from orchestrations.registry import FOLDER, strategies
from tests.system.fleet import PAIR, Fleet, fake_model, fleet
from tests.system.test_fake_fleet import EXPECT, prompt

ENGINES: dict[str, Role] = {**PAIR, "p1": "prefill", "d1": "decode"}
NUM_REQUESTS = 500
AT_ONCE = 16
SWAP_EVERY = 20
GOOD = ("data_parallel", "disaggregated")

RAISES = """
from bus.messages import Event, {event}
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import State, Step

def {name}(state: State, event: Event) -> Step:
    if isinstance(event, {event}):
        raise ValueError("planted")
    return disaggregated(state, event)
"""
STALLS = """
from bus.messages import Event, Submitted
from orchestrations.machine import Idle, Job, Preparing, State, Step, common

def mine(state: State, event: Event) -> Step:
    match state, event:
        case Idle(), Submitted(request, fleet):
            return Preparing(Job(request, fleet.least_loaded())), []
    return common(state, event)
"""
LOOPS = """
from bus.messages import Event, Prepared, Sent
from orchestrations.data_parallel import data_parallel
from orchestrations.machine import State, Step

def mine(state: State, event: Event) -> Step:
    while True:
        pass
"""


def source(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text()


def renamed(strategy: str, name: str, comment: str = "") -> str:
    """One of ours under another name, and another text for each comment."""
    return source(strategy).replace(f"def {strategy}(", f"def {name}(") + f"\n# {comment}\n"


async def put_into_service(store: VersionStore, text: str, slot: str | None = "mine") -> Ref:
    version = await store.add("mine", text, "test", "not checked")
    await store.activate(slot, version.ref)
    return version.ref


def versions_of(system: Fleet) -> dict[str, str]:
    """What each flow's trace says that it ran."""
    return {
        str(span.attributes[span_names.FLOW]): str(span.attributes[span_names.VERSION])
        for span in system.spans.spans
        if span.name == span_names.REQUEST
    }


async def test_500_requests_while_strategies_are_swapped_and_one_of_them_is_bad() -> None:
    number_of_swaps = NUM_REQUESTS // SWAP_EVERY + 1
    texts = [renamed(GOOD[n % len(GOOD)], "mine", str(n)) for n in range(number_of_swaps)]
    texts[5] = RAISES.format(name="mine", event="Started")
    activated: list[Ref] = []
    async with fleet(fake_model(num_pages=512), ENGINES) as system:
        turn, next_swap = asyncio.Semaphore(AT_ONCE), SWAP_EVERY

        async def one(number: int) -> tuple[list[int], str]:
            nonlocal next_swap
            async with turn:
                if number >= next_swap:
                    next_swap += SWAP_EVERY
                    text = texts[len(activated)]
                    activated.append(await put_into_service(system.versions, text))
                request = GenerateRequest(
                    prompt=prompt(20 + number % 40, number), max_tokens=5, orchestration="mine"
                )
                tokens, done = await system.ask(request)
                assert done.reason == "length", done.message
                return tokens, done.flow

        activated.append(await put_into_service(system.versions, texts[0]))
        answers = await asyncio.gather(*map(one, range(NUM_REQUESTS)))
        await system.idle()

        ran = versions_of(system)
        [withdrawn] = {
            c.activation.withdrawn
            for c in await system.versions.history("mine")
            if c.activation.withdrawn
        }

    for number, (tokens, _) in enumerate(answers):
        assert tokens == EXPECT.continuation(prompt(20 + number % 40, number), 5)
    assert [m.engine.statistics().failed_steps for m in system.members.values()] == [0] * 4
    assert system.router.statistics().outcomes == {"finished": NUM_REQUESTS}
    assert set(ran) == {flow for _, flow in answers}
    assert set(ran.values()) <= {str(ref) for ref in activated}
    assert set(ran.values()) >= {str(ref) for ref in activated if ref != withdrawn}
    assert withdrawn == activated[5]
    assert str(withdrawn) not in ran.values()


async def asked_until_withdrawn(system: Fleet, bad: Ref) -> list[list[int]]:
    """Requests like no other, four at a time, and their answers. What arrives when a flow has ended
    its strategy does not hear, so that not each of them need meet the fault."""
    answers: list[list[int]] = []
    async with asyncio.timeout(20):
        while (now := await system.versions.active("mine")) and now.candidate == bad:
            four = (
                GenerateRequest(prompt=prompt(50, number), max_tokens=20, orchestration="mine")
                for number in range(len(answers), len(answers) + 4)
            )
            ends = await asyncio.gather(*map(system.ask, four))
            answers += [tokens for tokens, _ in ends]
    return answers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RAISES.format(name="mine", event="Submitted"), "planted"),
        (RAISES.format(name="mine", event="Prepared"), "planted"),
        (RAISES.format(name="mine", event="Sent"), "planted"),
        (RAISES.format(name="mine", event="Started"), "planted"),
        (RAISES.format(name="mine", event="Finished"), "planted"),
        (STALLS, "no engine owes an answer"),
        (LOOPS, "did not return within"),
    ],
    ids=["submitted", "prepared", "sent", "started", "finished", "stalls", "loops"],
)
async def test_a_bad_version_is_withdrawn_by_itself_and_no_request_fails_for_it(
    text: str, reason: str
) -> None:
    notices: list[dict[str, object]] = []

    async def on_notice(message: Message) -> None:
        notices.append(json.loads(message.payload))

    async with fleet(fake_model()) as system, MemoryBus(system.broker) as bus:
        await bus.subscribe("ms.orchestration.withdrawn", on_notice)
        good = await put_into_service(system.versions, renamed("disaggregated", "mine"))
        bad = await put_into_service(system.versions, text)

        answers = await asked_until_withdrawn(system, bad)

        await system.idle()
        now = await system.versions.active("mine")
    assert now is not None
    assert (now.candidate, now.withdrawn) == (good, bad)
    assert reason in now.reason
    for number, tokens in enumerate(answers):
        assert tokens == EXPECT.continuation(prompt(50, number), 20)
    assert [(n["name"], n["version"], n["router"]) for n in notices] == [("mine", 2, "r0")]
    assert reason in str(notices[0]["reason"])


async def test_a_version_that_cannot_be_loaded_is_withdrawn_before_anybody_meets_it() -> None:
    async with fleet(fake_model()) as system:
        good = await put_into_service(system.versions, renamed("disaggregated", "mine"))

        bad = await put_into_service(system.versions, "import os\n")

        request = GenerateRequest(prompt=prompt(50), max_tokens=5, orchestration="mine")
        _, done = await system.ask(request)
        assert done.reason == "length"
        async with asyncio.timeout(5):
            now = await system.versions.active("mine")
            while now is None or now.candidate != good:
                await asyncio.sleep(0)
                now = await system.versions.active("mine")
    assert now.withdrawn == bad
    assert "may not import os" in now.reason


async def test_flows_in_flight_finish_on_the_version_they_began_with() -> None:
    async with fleet(fake_model(step_s=0.002)) as system:
        first = await put_into_service(system.versions, renamed("disaggregated", "mine", "1"))
        request = GenerateRequest(prompt=prompt(50), max_tokens=100, orchestration="mine")
        early = asyncio.create_task(system.ask(request))
        async with asyncio.timeout(5):
            while not any(flow.num_tokens for flow in system.router.flows.values()):  # noqa: ASYNC110
                await asyncio.sleep(0)

        second = await put_into_service(system.versions, renamed("data_parallel", "mine", "2"))
        _, late = await system.ask(GenerateRequest(prompt=prompt(9), orchestration="mine"))

        _, done = await early
        ran = versions_of(system)
    assert ran[late.flow] == str(second)
    assert ran[done.flow] == str(first)


async def test_a_share_of_the_flows_gets_the_new_version() -> None:
    async with fleet(fake_model()) as system:
        version = await system.versions.add(
            "mine", renamed("data_parallel", "mine"), "test", "not checked"
        )
        await system.versions.activate(None, version.ref, 0.3)

        request = GenerateRequest(prompt=prompt(9), max_tokens=1)
        await asyncio.gather(*(system.ask(request) for _ in range(100)))

        ran = Counter(versions_of(system).values())
    assert set(ran) == {"mine@1", "disaggregated@installed"}
    assert 10 <= ran["mine@1"] <= 55


async def test_what_was_rolled_back_serves_nobody_any_more() -> None:
    async with fleet(fake_model()) as system:
        await put_into_service(system.versions, renamed("data_parallel", "mine"))
        await system.versions.roll_back("mine")

        with pytest.raises(RequestRejected, match="unknown_orchestration"):
            await system.ask(GenerateRequest(prompt="x", orchestration="mine"))


async def test_what_happened_to_a_flow_can_be_played_again() -> None:
    async with fleet(fake_model()) as system:
        _, done = await system.ask(GenerateRequest(prompt=prompt(50), max_tokens=5))

        [recording] = [r for r in system.recorder.recordings if r.flow == done.flow]
    same = replay(recording, strategies()["disaggregated"])
    other = replay(recording, strategies()["data_parallel"])

    assert same.parting is None
    assert other.parting == 0
    assert recording.outcome == "finished"
