"""`microserve generate`: one question, its answer as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import click
from msgspec import Struct

from bus.codec import Undecodable, decode, encode_json
from bus.interface import Bus, Message
from bus.messages import Beat
from bus.nats import NatsBus
from bus.public import ChatMessage, Delta, Done, Echo, GenerateRequest, Spoken, Welcome
from bus.subjects import Subjects

from .client import Client
from .roster import LOST_AFTER_S
from .settings import Settings


class Question(Struct, frozen=True):
    prompt: str
    raw: bool = False
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    orchestration: str | None = None
    priority: int = 0
    model_name: str | None = None
    as_json: bool = False

    def request(self) -> GenerateRequest:
        chat = (ChatMessage("user", self.prompt),)
        return GenerateRequest(
            prompt=self.prompt if self.raw else None,
            messages=None if self.raw else chat,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
            orchestration=self.orchestration,
            priority=self.priority,
        )


async def ask(settings: Settings, url: str, question: Question) -> None:
    """Print the answer to standard output, and the flow's id to standard error."""
    subjects = Subjects(settings.namespace)
    async with NatsBus(url, name="microserve-generate") as bus:
        model = question.model_name or await only_model(bus, subjects)
        async with Client(bus, subjects) as client:
            async for message in client.generate(model, question.request()):
                _print(message, question.as_json)


async def only_model(bus: Bus, subjects: Subjects) -> str:
    """The model that the fleet serves, from its heartbeats.

    Raises:
        click.UsageError: there is none, or more than one.
    """
    seen: set[str] = set()
    heard = asyncio.Event()

    async def listen(message: Message) -> None:
        with contextlib.suppress(Undecodable):
            seen.add(decode(message.payload, Beat).model)
            heard.set()

    subscription = await bus.subscribe(subjects.every_beat, listen)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOST_AFTER_S):
            await heard.wait()
    await subscription.unsubscribe()
    if len(seen) == 1:
        return seen.pop()
    if not seen:
        raise click.UsageError("no engine is up: is this the right broker and namespace?")
    raise click.UsageError(f"several models are served: give --model-name, {sorted(seen)}")


def _print(message: Welcome | Spoken, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(encode_json(message).decode() + "\n")
    elif isinstance(message, Delta | Echo):
        sys.stdout.write(message.text)
    elif isinstance(message, Done):
        sys.stdout.write("\n")
        _print_end(message)
    sys.stdout.flush()


def _print_end(done: Done) -> None:
    if done.reason == "error":
        raise click.ClickException(done.message)
    click.echo(
        f"[{done.reason}; {done.usage.prompt_tokens} tokens in, {done.usage.completion_tokens} "
        f"out; microserve trace {done.flow[:8]}]",
        err=True,
    )
