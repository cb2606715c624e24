"""`microserve up`, as its users have it: moved and swapped under load, on real processes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import click
import psutil
import pytest
from msgspec.structs import replace

from actors.client import Client, RequestRejected
from actors.moving import move
from actors.settings import Settings
from actors.supervisor import find_running
from actors.version_store import VersionStore
from actors.versioning import Notice
from actors.versions import Ref
from bus.codec import decode, decode_public
from bus.interface import Message
from bus.jetstream import JetStreamBuckets
from bus.messages import Beat, Sampling
from bus.nats import NatsBus
from bus.public import Delta, Done, GenerateRequest, Welcome
from bus.subjects import Subjects
from bus.tokens import Tokens
from observability import names as span_names
from observability.spans import Span
from observability.store import TraceStore
from orchestrations.registry import names
from tests.engine.checkpoints import tiny_checkpoint
from tests.system.alone import Alone
from tests.system.real import settings
from tests.system.test_commands import up
from tests.system.test_hot_swap import LOOPS, RAISES, renamed

pytestmark = pytest.mark.timeout(180)

NUM_REQUESTS = 500
AT_ONCE = 16
SWAP_EVERY = 20
"""Answers, that is; a fraction of a second."""
NUM_TOKENS = 5
LONG = 1200
"""Tokens of the answer that is moved."""


@dataclass
class Up:
    settings: Settings
    url: str
    model: str
    processes: list[psutil.Process]
    alone: Alone

    def expected(self, prompt: tuple[int, ...], max_tokens: int) -> list[int]:
        return self.alone.answer(Tokens(prompt), Sampling(max_tokens=max_tokens))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with NatsBus(self.url, name="test") as bus, Client(bus) as client:
            yield client

    async def epochs(self) -> dict[str, int]:
        """Each engine's, as it says now: a restart would make it larger."""
        beats: dict[str, int] = {}

        async def on_beat(message: Message) -> None:
            beat = decode(message.payload, Beat)
            beats[beat.engine] = beat.epoch

        async with NatsBus(self.url, name="test") as bus, asyncio.timeout(20):
            await bus.subscribe(Subjects().every_beat, on_beat)
            while len(beats) < 2:  # noqa: ASYNC110 - beats come by themselves
                await asyncio.sleep(0.05)
        return beats

    async def traced(self, flows: Collection[str]) -> dict[str, list[Span]]:
        """The spans of these flows, as soon as all have ended there: processes write by and by."""
        store = TraceStore(self.settings.trace_store)
        try:
            async with asyncio.timeout(60):
                while not set(flows) <= {h.flow for h in store.latest(1000) if h.outcome}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            return {flow: store.flow(flow) for flow in flows}
        finally:
            store.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("home")
    model = str(tiny_checkpoint(home / "tiny"))
    with up(home, model, "--engines", "2") as process:
        children = psutil.Process(process.pid).children(recursive=True)
        here = replace(settings(home), state_dir=home)
        url = find_running(here)
        assert url is not None
        yield Up(here, url, "tiny", children, Alone(model))
        process.terminate()
        process.wait(20)


def prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{length} {seed}").choices(range(3, 500), k=length))


# --- moving a conversation ----------------------------------------------------------------------


async def test_a_conversation_is_moved_while_its_answer_streams(
    running: Up, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = GenerateRequest(
        prompt=prompt(100, 1), max_tokens=LONG, ignore_eos=True, orchestration="migrate_running"
    )
    tokens, flow, wished = list[int](), "", 0
    async with running.client() as client:
        async for message in client.generate(running.model, asked):
            if isinstance(message, Welcome):
                flow = message.flow
            elif isinstance(message, Delta):
                assert message.offset == len(tokens)
                tokens += message.tokens
                if wished + 40 <= len(tokens) < LONG // 4:
                    # Again and again: a wish that comes before it decodes, while it moves, or when
                    # it is there changes nothing.
                    wished = len(tokens)
                    await move(running.settings, running.url, flow[:8], "p0", within_s=10)
            elif isinstance(message, Done):
                assert message.reason == "length"

    told = capsys.readouterr().out
    spans = (await running.traced([flow]))[flow]
    begun = [s for s in spans if s.kind == "producer" and s.name == "send StartGenerate"]
    assert tokens == running.expected(prompt(100, 1), LONG)
    assert [s.attributes[span_names.ENGINE] for s in begun][:2] == ["d0", "p0"]
    assert "migrate_running takes it to p0" in told


async def test_what_cannot_be_moved_is_told_in_words(running: Up) -> None:
    with pytest.raises(click.ClickException, match="no router has a flow abcdef12: has it"):
        await move(running.settings, running.url, "abcdef12", "p0", within_s=0.1)
    with pytest.raises(click.ClickException, match="'a flow' is no flow"):
        await move(running.settings, running.url, "a flow", "p0")


# --- swapping strategies ------------------------------------------------------------------------


class Load:
    """So many users who ask one thing after the other, until they are told that it is enough."""

    def __init__(self, client: Client, model: str) -> None:
        self.client, self.model = client, model
        self.answers: list[tuple[int, list[int], str]] = []
        """Which prompt, the answer's tokens, its flow."""
        self.is_enough = False
        self._more = asyncio.Condition()

    async def is_served(self) -> None:
        """Returns when the router knows what users ask for."""
        request = GenerateRequest(prompt=(3,), max_tokens=1, orchestration="mine")
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(RequestRejected):
                    await read(self.client, self.model, request)
                    return
                await asyncio.sleep(0.01)

    async def user(self, first: int) -> None:
        number = first
        while not self.is_enough or len(self.answers) < NUM_REQUESTS:
            asked = GenerateRequest(
                prompt=PROMPTS[number % 25], max_tokens=NUM_TOKENS, orchestration="mine"
            )
            tokens, flow = await read(self.client, self.model, asked)
            self.answers.append((number % 25, tokens, flow))
            async with self._more:
                self._more.notify_all()
            number += 1

    async def more(self, num_answers: int) -> None:
        """Returns when there are so many more."""
        wanted = len(self.answers) + num_answers
        async with self._more:
            await self._more.wait_for(lambda: len(self.answers) >= wanted)


class Swaps:
    """Puts texts into service, one after the other, each for a while."""

    def __init__(self, store: VersionStore, load: Load) -> None:
        self.store, self.load = store, load
        self.activated: list[Ref] = []
        self.withdrawn: list[Ref] = []
        self._heard = asyncio.Event()

    async def on_notice(self, message: Message) -> None:
        notice = decode_public(message.payload, Notice)
        self.withdrawn.append(Ref(notice.name, notice.version))
        self._heard.set()

    async def swap(self, text: str) -> None:
        version = await self.store.add("mine", text, "test", "not checked")
        self.activated.append(version.ref)
        await self.store.activate("mine", version.ref)

    async def swap_all(self, texts: Sequence[str]) -> None:
        for text in texts:
            await self.swap(text)
            await self.load.more(SWAP_EVERY)
            if text in BAD:  # however long its turn must be for that
                await self._heard.wait()
                self._heard.clear()
        self.load.is_enough = True


PROMPTS = [prompt(20 + n, n) for n in range(25)]
BAD = (RAISES.format(name="mine", event="Started"), LOOPS)


async def test_500_requests_while_strategies_are_swapped_and_two_of_them_are_bad(
    running: Up,
) -> None:
    good = [renamed(name, "mine", str(n)) for n, name in enumerate(names() * 3)]
    texts = [*good[:5], BAD[0], *good[5:9], BAD[1], *good[9:]]
    pids, epochs = [p.pid for p in running.processes], await running.epochs()

    async with NatsBus(running.url, name="test") as bus, Client(bus) as client:
        load = Load(client, running.model)
        swaps = Swaps(await VersionStore.open(JetStreamBuckets(bus), "ms"), load)
        await bus.subscribe(Subjects().withdrawn, swaps.on_notice)
        await swaps.swap(good[-1])
        await load.is_served()
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(swaps.swap_all(texts))
            for number in range(AT_ONCE):
                tasks.create_task(load.user(number))

    spans = await running.traced([flow for *_, flow in load.answers])
    expected = [running.expected(p, NUM_TOKENS) for p in PROMPTS]
    assert len(load.answers) >= NUM_REQUESTS
    assert all(tokens == expected[number] for number, tokens, _ in load.answers)
    bad = [ref for ref, text in zip(swaps.activated[1:], texts, strict=True) if text in BAD]
    assert swaps.withdrawn == bad
    ran = {version(of_flow) for of_flow in spans.values()}
    assert ran <= set(map(str, swaps.activated)) - set(map(str, bad))
    assert len(ran) > len(names())
    assert [p.pid for p in running.processes if p.is_running()] == pids
    assert await running.epochs() == epochs


async def read(client: Client, model: str, request: GenerateRequest) -> tuple[list[int], str]:
    """The answer's tokens, and its flow."""
    tokens: list[int] = []
    async for message in client.generate(model, request):
        if isinstance(message, Delta):
            tokens += message.tokens
        elif isinstance(message, Done):
            assert message.reason in ("length", "stop"), message
            return tokens, message.flow
    raise AssertionError("the answer had no end")


def version(spans: list[Span]) -> str:
    """What the flow's trace says that it ran."""
    [root] = [span for span in spans if span.name == span_names.REQUEST]
    return str(root.attributes[span_names.VERSION])
