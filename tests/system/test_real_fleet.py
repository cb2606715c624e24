"""The main job on real parts: nats-server, UCX, processes; cancellations, a kill, bad input."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus.codec import decode, decode_public, encode
from bus.fleet import Role
from bus.interface import Message
from bus.messages import (
    Accepted,
    Order,
    PrepRecv,
    Refused,
    Report,
    Sampling,
    StartGenerate,
    Suspend,
)
from bus.messages import Mailbox as Box
from bus.public import Delta, GenerateRequest, Rejected, Reply
from bus.subjects import Subjects, last
from bus.tokens import Tokens
from observability.store import TraceStore
from observability.summary import flow_summary
from tests.engine.checkpoints import tiny_checkpoint
from tests.system.alone import Alone
from tests.system.real import Real, real_fleet

pytestmark = pytest.mark.timeout(180)

TRIO: tuple[tuple[str, Role], ...] = (("p0", "prefill"), ("d0", "decode"), ("x0", "both"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny"))


async def test_32_mixed_requests_with_cancellations_leave_no_page_held(
    model: str, tmp_path: Path
) -> None:
    alone, chance = Alone(model), random.Random(3)
    requests = [_request(chance) for _ in range(32)]
    limits = [chance.choice([None, None, chance.randrange(6)]) for _ in requests]

    async with real_fleet(model, TRIO, tmp_path) as real:
        answers = await asyncio.gather(*map(_read, [real] * 32, requests, limits))
        await real.no_page_held()
        await real.stopped_cleanly()

    for request, limit, tokens in zip(requests, limits, answers, strict=True):
        assert isinstance(request.prompt, tuple)
        expected = alone.answer(Tokens(request.prompt), _sampling(request))
        assert tokens == (expected if limit is None else expected[: len(tokens)])


def _request(chance: random.Random) -> GenerateRequest:
    length = chance.choice([1, 15, 16, 17, 60, 200, 600, 1100])
    return GenerateRequest(
        prompt=tuple(random.Random(length).choices(range(3, 500), k=length)),
        max_tokens=chance.randrange(4, 24),
        temperature=chance.choice([0.0, 0.9]),
        seed=7,
        orchestration=chance.choice(["data_parallel", "disaggregated"]),
    )


def _sampling(request: GenerateRequest) -> Sampling:
    return Sampling(
        max_tokens=request.max_tokens, temperature=request.temperature, seed=request.seed or 0
    )


async def _read(real: Real, request: GenerateRequest, limit: int | None) -> list[int]:
    """The answer, or its beginning: reading no further cancels the request."""
    tokens: list[int] = []
    stream = real.client.generate(real.model, request)
    async for message in stream:
        if isinstance(message, Delta):
            tokens += message.tokens
        if limit is not None and len(tokens) >= limit:
            break
    await stream.aclose()
    return tokens


@pytest.mark.parametrize("victim", ["p0", "d0"])
async def test_a_killed_engine_costs_its_users_a_message_and_nobody_else_anything(
    model: str, tmp_path: Path, victim: str
) -> None:
    alone = Alone(model)
    prompts = [tuple(random.Random(n).choices(range(3, 500), k=900)) for n in range(10)]
    requests = [GenerateRequest(prompt=p, max_tokens=200) for p in prompts]

    async with real_fleet(model, TRIO, tmp_path) as real:
        async with _commanded(real, victim):
            asked = [asyncio.create_task(real.ask(r)) for r in requests]

        real.child(victim).process.send_signal(signal.SIGKILL)

        async with asyncio.timeout(10):
            ends = [done for _, done in await asyncio.gather(*asked)]
        assert any(d.reason == "error" and victim in d.message for d in ends)
        await real.no_page_held(victim)
        tokens, done = await real.ask(GenerateRequest(prompt=prompts[0][:50], max_tokens=5))
        await real.stopped_cleanly(victim)

    assert done.reason == "length"
    assert tokens == alone.answer(Tokens(prompts[0][:50]), Sampling(max_tokens=5))


@asynccontextmanager
async def _commanded(real: Real, engine: str) -> AsyncIterator[None]:
    """Ends when the engine has been told to do something that takes it a while."""
    heard = asyncio.Event()

    async def on_command(message: Message) -> None:
        if last(message.subject) in ("RemoteSend", "StartGenerate"):
            heard.set()

    subscription = await real.bus.subscribe(Subjects().commands(engine), on_command)
    yield
    async with asyncio.timeout(30):
        await heard.wait()
    await subscription.unsubscribe()


async def test_bad_input_is_refused_in_words_and_changes_nothing(
    model: str, tmp_path: Path
) -> None:
    async with real_fleet(model, TRIO[2:], tmp_path) as real:
        subject = Subjects().generate(real.model)
        for payload, target, reason in (
            (b"{", subject, "bad_message"),
            (b'{"prompt": {}}', subject, "bad_message"),
            (b'{"prompt": "x", "top_p": 7}', subject, "bad_request"),
            (b'{"prompt": "x"}', "ms.generate.unknown", "unknown_model"),
            (b'{"prompt": "' + b"word " * 30_000 + b'"}', subject, "too_long"),
        ):
            reply = decode_public(
                (await real.bus.request(target, payload, timeout_s=5)).payload, Reply
            )
            assert isinstance(reply, Rejected)
            assert (reply.reason, reply.message != "") == (reason, True)
        await _bad_orders(real)
        await real.no_page_held()
        _, done = await real.ask(GenerateRequest(prompt="still here?", max_tokens=3))
        assert done.reason in ("length", "stop")
        await real.stopped_cleanly()


async def _bad_orders(real: Real) -> None:
    """Commands that no router of ours would give, straight to the engine."""
    reports: asyncio.Queue[Report] = asyncio.Queue()

    async def on_report(message: Message) -> None:
        reports.put_nowait(decode(message.payload, Report))

    await real.bus.subscribe(Subjects().event("tester"), on_report)
    prompt = Tokens(range(3, 43))
    generate = StartGenerate("x0", prompt, 41, Sampling(), Box("nowhere"))
    for flow, command, reason in (
        ("a", PrepRecv("x0", prompt, end=-41), "bad_range"),
        ("b", PrepRecv("x0", prompt, end=41), "bad_range"),
        ("c", generate, "bad_range"),
        ("d", PrepRecv("x0", Tokens((3, 100_000))), "bad_range"),
        ("e", PrepRecv("x0", Tokens(range(3, 503)) + Tokens([3] * 9000)), "too_long"),
        ("f", Suspend("x0"), "no_such_flow"),
    ):
        order = Order(flow, 1, "tester", command)
        target = Subjects().command("x0", type(command).__name__)
        reply = await real.bus.request(target, encode(order), timeout_s=5)
        assert isinstance(decode(reply.payload, Accepted | Refused), Accepted)
        async with asyncio.timeout(5):
            event = (await reports.get()).event
        assert isinstance(event, Refused)
        assert (event.reason, event.message != "") == (reason, True)
    garbage = await real.bus.request(Subjects().command("x0", "PrepRecv"), b"\xc1", timeout_s=5)
    refused = decode(garbage.payload, Accepted | Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "bad_message"


async def test_the_default_model_answers_and_its_flow_is_one_trace(tmp_path: Path) -> None:
    alone = Alone(None)
    prompt = Tokens(alone.files.tokenizer().encode("The capital of France is Paris. " * 12))

    async with real_fleet(None, TRIO[:2], tmp_path, kv_mib=512) as real:
        tokens, done = await real.ask(GenerateRequest(prompt=tuple(prompt), max_tokens=12))
        await real.no_page_held()
        await real.stopped_cleanly()

    assert tokens == alone.answer(prompt, Sampling(max_tokens=12))
    store = TraceStore(tmp_path / "state" / "traces.db")
    spans = store.flow(done.flow)
    store.close()
    summary = flow_summary(spans)
    assert [s.name for s in summary.states] == ["Preparing", "Sending", "Generating"]
    assert [c.verb for c in summary.commands] == ["PrepRecv", "RemoteSend", "StartGenerate"]
    [transfer] = summary.transfers
    assert transfer.num_bytes >= (len(prompt) - 1) * 46_080
    assert transfer.lane in ("sysv", "posix", "cma")
    assert len({s.context.trace_id for s in spans}) == 1
    ids = {s.context.span_id for s in spans}
    assert all(s.parent is None or s.parent.span_id in ids for s in spans)
