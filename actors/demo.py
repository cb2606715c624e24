"""`microserve demo` and `microserve up`: a local fleet, and one request through all of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec import Struct
from rich.console import Console

from bus.codec import decode_public, encode_json
from bus.interface import Bus, Message
from bus.nats import NatsBus
from bus.public import ChatMessage, Delta, Done, GenerateRequest, Rejected, Reply, Welcome
from bus.subjects import Subjects
from observability.store import TraceStore
from observability.store_errors import StoreError
from observability.summary import FlowSummary, flow_summary
from observability.waterfall import where_time_went

from .children import ChildFailed
from .operating import store, watch_files
from .served import only_model
from .settings import Settings
from .showing import story, transfers
from .supervisor import FleetOptions, LocalFleet, local_fleet, roles

SPANS_WITHIN_S = 5.0


class Demo(Struct, frozen=True):
    prompt: str
    max_tokens: int
    orchestration: str
    model: str | None


async def show(settings: Settings, demo: Demo) -> None:
    """Start a fleet, ask it one thing as any NATS client would, and show what happened."""
    began = time.monotonic()

    def say(what: str) -> None:
        click.echo(f"{time.monotonic() - began:6.2f} s  {what}")

    options = FleetOptions(roles(2), demo.orchestration, demo.model)
    async with local_fleet(settings, options, settings.nats_url, say) as fleet:
        async with NatsBus(fleet.url, name="microserve-demo") as bus:
            subjects = Subjects(settings.namespace)
            model = await only_model(bus, subjects)
            say(f"publishing to {subjects.generate(model)!r}")
            click.echo(f"\n> {demo.prompt}\n")
            flow = await _ask(bus, subjects.generate(model), demo)
        if settings.otlp_endpoint:
            click.echo(f"\nflow {flow}: its trace went to {settings.otlp_endpoint}")
        else:
            _show_story(settings, await _summary(settings, flow))
        say("stopping")
    say("stopped: nothing is left running")


async def _ask(bus: Bus, subject: str, demo: Demo) -> str:
    """Publish with a reply inbox, as a client that knows nothing but the public protocol."""
    request = GenerateRequest(
        messages=(ChatMessage("user", demo.prompt),), max_tokens=demo.max_tokens
    )
    inbox, replies = bus.inbox(), asyncio.Queue[Reply]()

    async def on_reply(message: Message) -> None:
        replies.put_nowait(decode_public(message.payload, Reply))

    subscription = await bus.subscribe(inbox, on_reply)
    await bus.publish(subject, encode_json(request), reply=inbox)
    try:
        return await _print_answer(replies)
    finally:
        await subscription.unsubscribe()


async def _print_answer(replies: asyncio.Queue[Reply]) -> str:
    while True:
        match await replies.get():
            case Welcome():
                continue
            case Delta(text=text):
                click.echo(text, nl=False)
            case Done(flow, reason="error", message=message):
                raise click.ClickException(message)
            case Done(flow):
                click.echo("\n")
                return flow
            case Rejected(reason, message):
                raise click.ClickException(f"{reason}: {message}")


async def _summary(settings: Settings, flow: str) -> FlowSummary:
    """What the trace says, as soon as the router and both engines have written their part of it."""
    store = TraceStore(settings.trace_store)
    deadline = time.monotonic() + SPANS_WITHIN_S
    try:
        while True:
            spans = []
            with contextlib.suppress(StoreError):
                spans = store.flow(flow)
            sent = {s.context.span_id for s in spans if s.kind == "producer"}
            done = {s.parent.span_id for s in spans if s.kind == "consumer" and s.parent}
            if (sent and sent <= done) or time.monotonic() > deadline:
                return flow_summary(spans)
            await asyncio.sleep(0.05)
    finally:
        store.close()


def _show_story(settings: Settings, summary: FlowSummary) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"flow [bold]{summary.flow}[/]: orchestration [bold]{summary.orchestration}[/], "
        f"{summary.outcome} after {summary.duration_s:.2f} s; {summary.prompt_tokens} tokens in, "
        f"{summary.completion_tokens} out\n"
    )
    console.print(story(summary))
    console.print("")
    for line in transfers(summary):
        console.print(line)
    console.print(where_time_went(summary.shares))
    where = f"MICROSERVE_STATE_DIR={settings.state_dir} " if _unusual(settings) else ""
    console.print(f"\nThe whole trace: {where}.venv/bin/microserve trace {summary.flow[:8]}\n")


def _unusual(settings: Settings) -> bool:
    return "MICROSERVE_STATE_DIR" in os.environ


async def stay_up(
    settings: Settings, options: FleetOptions, url: str | None, watched: Sequence[Path] = ()
) -> None:
    """Run a fleet until the task is cancelled. An engine that dies is named and missed; without
    its router a fleet is nothing, and ends. ``watched`` files of strategies are put into service,
    and again when they are saved."""
    async with local_fleet(settings, options, url, click.echo) as fleet:
        _greet(settings, fleet, options.http_port)
        async with asyncio.TaskGroup() as tasks:
            if watched:
                tasks.create_task(_watch(settings, fleet.url, watched))
            await _guard(fleet)


async def _guard(fleet: LocalFleet) -> None:
    """Raises: ChildFailed: the router ended."""
    while True:
        child = await fleet.children.first_to_end()
        failure = ChildFailed(child.name, child.process.returncode)
        if child is fleet.router:
            raise failure
        fleet.children.forget(child)
        click.echo(f"{failure}; the others go on", err=True)


async def _watch(settings: Settings, url: str, paths: Sequence[Path]) -> None:
    async with store(settings, url) as versions:
        await watch_files(versions, paths, click.echo)


def _greet(settings: Settings, fleet: LocalFleet, http_port: int | None) -> None:
    subjects = Subjects(settings.namespace)
    if http_port is not None:
        at = f"http://127.0.0.1:{http_port}"
        click.echo(f"\nOpenAI's interface is at {at}/v1, the live page at {at}/live")
    click.echo(
        f"\nThe broker is at {fleet.url}\n"
        f"Publish JSON to '{subjects.namespace}.generate.MODEL' with a reply subject, or run:\n"
        f'    microserve generate "Why is the sky blue?"\n'
        f"Ctrl-C stops everything."
    )
