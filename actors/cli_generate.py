"""`microserve generate`: every field of a request as an option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from bus.public import (
    ChatMessage,
    GenerateRequest,
    JsonObject,
    JsonSchema,
    Regex,
    ResponseFormat,
)

from .cli_completion import strategies
from .cli_parts import INTERRUPTED, broker_url, clean_errors, run, url_option
from .settings import Settings


class Bias(click.ParamType[tuple[int, float]]):
    """A token's id, and what is added to its logit."""

    name = "TOKEN=BIAS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, float]:
        token, _, amount = str(value).partition("=")
        try:
            return int(token), float(amount)
        except ValueError:
            self.fail(f"{value!r} is not TOKEN=BIAS, such as 318=-100", param, ctx)


class Schema(click.ParamType[dict[str, Any]]):
    """A JSON schema as text, or ``@`` and the file that it is in."""

    name = "SCHEMA"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        text = str(value)
        try:
            text = Path(text[1:]).read_text() if text.startswith("@") else text
            return msgspec.json.decode(text, type=dict[str, Any])
        except OSError as error:
            self.fail(f"{value!r} cannot be read: {error.strerror}", param, ctx)
        except msgspec.DecodeError as error:
            self.fail(f"{value!r} is no JSON object: {error}", param, ctx)


@click.command("generate")
@click.argument("prompt")
@click.option("--raw", is_flag=True, help="Continue the text as it is, without a chat template.")
@click.option("--system", default="", metavar="TEXT", help="What a chat begins with.")
@click.option("--max-tokens", default=128, show_default=True, type=click.IntRange(0))
@click.option("--min-tokens", default=0, show_default=True, type=click.IntRange(0),
              help="Nothing ends the answer before.")  # fmt: skip
@click.option("--n", default=1, show_default=True, type=click.IntRange(1),
              help="So many answers; each is printed when it is complete.")  # fmt: skip
# Which token is chosen.
@click.option("--temperature", default=0.0, show_default=True)
@click.option("--top-k", default=0, show_default=True, help="Of the K likeliest tokens; 0: of all.")
@click.option("--top-p", default=1.0, show_default=True,
              help="Of the likeliest that reach this probability together.")  # fmt: skip
@click.option("--min-p", default=0.0, show_default=True,
              help="Of those at least so likely as this share of the likeliest.")  # fmt: skip
@click.option("--repetition-penalty", default=1.0, show_default=True)
@click.option("--presence-penalty", default=0.0, show_default=True)
@click.option("--frequency-penalty", default=0.0, show_default=True)
@click.option("--logit-bias", multiple=True, type=Bias(),
              help="Make a token likelier, or rule it out: -100. Again for more.")  # fmt: skip
@click.option("--seed", type=int, help="Default: another one each time.")
# What the answer looks like, and where it ends.
@click.option("--json-schema", type=Schema(), metavar="SCHEMA",
              help="The answer is JSON of this schema: its text, or @FILE.")  # fmt: skip
@click.option("--json-object", is_flag=True, help="The answer is some JSON object.")
@click.option("--regex", metavar="PATTERN", help="The whole answer matches it.")
@click.option("--stop", multiple=True, help="End before this text; several may be given.")
@click.option("--stop-token", "stop_tokens", multiple=True, type=int, metavar="TOKEN",
              help="End after this token id; several may be given.")  # fmt: skip
@click.option("--ignore-eos", is_flag=True, help="The model's own end tokens end nothing.")
# What else is told.
@click.option("--echo", is_flag=True, help="Print the prompt as the model sees it, too.")
@click.option("--logprobs", type=click.IntRange(0), metavar="K",
              help="Log-probabilities, also of the K likeliest; with --json.")  # fmt: skip
@click.option("--prompt-logprobs", type=click.IntRange(0), metavar="K",
              help="Those of the prompt's tokens; with --json.")  # fmt: skip
# Who serves it, and when.
@click.option("--adapter", default="", metavar="NAME", help="A LoRA adapter of the engines'.")
@click.option("--orchestration", shell_complete=strategies, help="Default: the router's.")
@click.option("--engine", default="", metavar="NAME",
              help="Where to have it, for strategies that can be told.")  # fmt: skip
@click.option("--group", default="", help="What it belongs to, such as a topic.")
@click.option("--user", default="", help="Who asks, for taking turns where requests wait.")
@click.option("--priority", default=0, show_default=True, help="-100 to 100; the larger first.")
@click.option("--timeout-s", type=float, metavar="SECONDS",
              help="Its deadline: cancelled when it is not finished by then.")  # fmt: skip
@click.option("--model-name", help="As in the subject; default: the only one that is served.")
@click.option("--json", "as_json", is_flag=True, help="Print every message as a line of JSON.")
@url_option
@click.pass_obj
@clean_errors
def generate(
    settings: Settings, /, url: str | None, model_name: str | None, as_json: bool, **given: Any
) -> None:
    """Ask a running system, and print the answer as it comes. Ctrl-C cancels the request.

    Exit status 130 where Ctrl-C cancelled it.

    \b
    Examples:
      microserve generate "Why is the sky blue?"
      microserve generate "Name a colour." --regex "(red|green|blue)"
      microserve generate "Invent a name." --n 3 --temperature 1
    """
    from .asking import Question, ask

    question = Question(request_of(**given), model_name, as_json)
    run(ask(settings, broker_url(settings, url), question), interrupted=INTERRUPTED)


def request_of(prompt: str, raw: bool, system: str, **given: Any) -> GenerateRequest:
    """The options as a request; what its fields may be is for the router to say.

    Raises:
        click.UsageError: two options exclude each other.
    """
    if raw and system:
        raise click.UsageError("--system with --raw: only a chat has a system message")
    chat = [ChatMessage("system", system)] if system else []
    response_format = _response_format(**{name: given.pop(name) for name in _FORMATS})
    return GenerateRequest(
        prompt=prompt if raw else None,
        messages=None if raw else (*chat, ChatMessage("user", prompt)),
        response_format=response_format,
        logit_bias=dict(given.pop("logit_bias")),
        **given,
    )


_FORMATS = ("json_schema", "json_object", "regex")


def _response_format(
    json_schema: dict[str, Any] | None, json_object: bool, regex: str | None
) -> ResponseFormat | None:
    wanted: list[ResponseFormat] = []
    if json_schema is not None:
        wanted.append(JsonSchema(json_schema))
    if json_object:
        wanted.append(JsonObject())
    if regex is not None:
        wanted.append(Regex(regex))
    if len(wanted) > 1:
        raise click.UsageError("give one of --json-schema, --json-object and --regex")
    return wanted[0] if wanted else None
