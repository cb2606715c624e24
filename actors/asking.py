"""`microserve generate`: one question, its answer as it comes."""

from __future__ import annotations

import sys
from collections import defaultdict

import click
from msgspec import Struct

from bus.codec import encode_json
from bus.interface import Bus
from bus.nats import NatsBus
from bus.public import ChoiceDone, Delta, Done, Echo, GenerateRequest, Spoken, Welcome
from bus.subjects import Subjects

from .client import Client
from .client_errors import UnclearModel
from .served import only_model
from .settings import Settings


class Question(Struct, frozen=True):
    request: GenerateRequest
    model_name: str | None = None
    as_json: bool = False


async def ask(settings: Settings, url: str, question: Question) -> None:
    """Print the answer to standard output, and the flow's id to standard error."""
    subjects = Subjects(settings.namespace)
    async with NatsBus(url, name="microserve-generate") as bus:
        model = question.model_name or await _only_model(bus, subjects)
        page = Page(question.request.n)
        async with Client(bus, subjects) as client:
            async for message in client.generate(model, question.request):
                if question.as_json:
                    _write(encode_json(message).decode() + "\n")
                    continue
                _write(page.shown(message))
                if isinstance(message, Done):
                    _print_end(message)


async def _only_model(bus: Bus, subjects: Subjects) -> str:
    try:
        return await only_model(bus, subjects)
    except UnclearModel as error:
        option = " (--model-name)" if error.models else ""
        raise click.UsageError(f"{error}{option}") from None


class Page:
    """What of an answer is shown, for people. One is shown as it comes; of several, which come at
    once, each when it is complete."""

    def __init__(self, num_answers: int) -> None:
        self._num_answers = num_answers
        self._texts: defaultdict[int, str] = defaultdict(str)

    def shown(self, message: Welcome | Spoken) -> str:
        """What is to be printed now."""
        match message:
            case Echo(text=text):
                return text
            case Delta(text=text) if self._num_answers == 1:
                return text
            case Delta(text=text, choice=choice):
                self._texts[choice] += text
                return ""
            case ChoiceDone(choice=choice, reason=reason):
                title = f"[answer {choice + 1} of {self._num_answers}; {reason}]"
                return f"{title}\n{self._texts.pop(choice, '')}\n"
            case Done():
                return "\n" if self._num_answers == 1 else ""
            case Welcome():
                return ""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _print_end(done: Done) -> None:
    if done.reason == "error":
        raise click.ClickException(done.message)
    click.echo(
        f"[{done.reason}; {done.usage.prompt_tokens} tokens in, {done.usage.completion_tokens} "
        f"out; microserve trace {done.flow[:8]}]",
        err=True,
    )
