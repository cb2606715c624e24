"""`microserve`: every command, its options and its help."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from pathlib import Path
from typing import Any, get_args

import click

from bus.fleet import Role
from engine.kv_memory import KvMemory, Share, Size, read_kv_memory, read_size

from .cli_parts import (
    broker_url,
    clean_errors,
    kv_mib_option,
    lifeline_option,
    model_option,
    role_option,
    run,
    sized,
    url_option,
)
from .cli_versions import commands as version_commands
from .options import DEFAULT_KV_MEMORY, EngineOptions, GatewayOptions, RouterOptions
from .settings import Settings, from_environment
from .supervisor import FleetOptions, numbered, roles


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="microserve")
@click.option("-v", "--verbose", is_flag=True, help="Log what the actors do to standard error.")
@click.pass_context
def main(context: click.Context, verbose: bool) -> None:
    """LLM serving as asynchronous actors on a NATS broker.

    Start with 'microserve demo', or with 'microserve up' in one terminal and
    'microserve generate "Hello"' in another.

    The environment: MICROSERVE_NATS_URL, MICROSERVE_NAMESPACE, MICROSERVE_STATE_DIR (traces),
    MICROSERVE_CACHE_DIR (converted models), MICROSERVE_FLEET_KEY (signs KV grants),
    MICROSERVE_LIBUCP, MICROSERVE_JAEGER_URL, MICROSERVE_API_KEYS and MICROSERVE_OPERATOR_KEYS
    (a gateway's, with commas; the latter may read all of its live page), NATS_SERVER_BIN,
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    context.obj = from_environment()


# --- a whole fleet ------------------------------------------------------------------------------


@main.command()
@click.option(
    "--prompt", default="Why is the sky blue? Answer in two sentences.", show_default=True
)
@click.option("--max-tokens", default=48, show_default=True, type=click.IntRange(1))
@click.option("--orchestration", default="disaggregated", show_default=True)
@model_option
@click.pass_obj
@clean_errors
def demo(
    settings: Settings, prompt: str, max_tokens: int, orchestration: str, model: str | None
) -> None:
    """One request from end to end: a broker, a router, two engines; tokens, then the flow."""
    from .demo import Demo, show

    run(show(settings, Demo(prompt, max_tokens, orchestration, model)))


@main.command()
@click.option("--engines", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--role", "given_roles", multiple=True, type=click.Choice(get_args(Role)),
              help="One per engine; default: half prefill, half decode.")  # fmt: skip
@click.option("--orchestration", default="disaggregated", show_default=True)
@click.option("--kv-memory", metavar="SIZE", callback=sized(read_kv_memory),
              help="For KV pages, each engine; default: 80% of what is free, shared.")  # fmt: skip
@kv_mib_option
@click.option("--watch", "watched", multiple=True, metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Check a strategy and put it into service, again on every save.")  # fmt: skip
@click.option("--http", "http_port", type=click.IntRange(1, 65535), metavar="PORT",
              help="Start a gateway, too, at 127.0.0.1:PORT.")  # fmt: skip
@model_option
@url_option
@click.pass_obj
@clean_errors
def up(
    settings: Settings,
    engines: int,
    given_roles: tuple[Role, ...],
    orchestration: str,
    kv_memory: KvMemory | None,
    kv_mib: int | None,
    watched: tuple[Path, ...],
    http_port: int | None,
    model: str | None,
    url: str | None,
) -> None:
    """Run a local fleet until Ctrl-C: a broker where none is given, a router and engines."""
    from .demo import stay_up

    if given_roles and len(given_roles) != engines:
        raise click.UsageError(f"--role was given {len(given_roles)} times for {engines} engines")
    names = numbered(given_roles) if given_roles else roles(engines)
    memory = _kv_memory(kv_memory, kv_mib) or Share(0.8 / engines)
    given = ("--kv-memory", str(memory))
    options = FleetOptions(names, orchestration, model, given, http_port=http_port)
    run(stay_up(settings, options, url or settings.nats_url, watched))


# --- single actors ------------------------------------------------------------------------------


@main.command()
@click.option("--name", help="Default: random.")
@click.option("--orchestration", default="disaggregated", show_default=True,
              help="What is done with requests that name none.")  # fmt: skip
@click.option("--stall-s", default=120.0, show_default=True, type=click.FloatRange(1),
              help="End a flow that nothing happens to for so long.")  # fmt: skip
@model_option
@url_option
@lifeline_option
@click.pass_obj
@clean_errors
def router(
    settings: Settings,
    name: str | None,
    orchestration: str,
    stall_s: float,
    model: str | None,
    url: str | None,
    lifeline: bool,
) -> None:
    """Join a system as a router. It needs the model's tokenizer, not its weights."""
    from .processes import router

    name = name or f"r-{secrets.token_hex(3)}"
    options = RouterOptions(
        broker_url(settings, url), name, model, orchestration, stall_s, lifeline
    )
    run(router(settings, options))


class Adapter(click.ParamType[tuple[str, str]]):
    """A name, and the folder that it stands for."""

    name = "ADAPTER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, _, folder = str(value).partition("=")
        if not (name and folder):
            self.fail(f"{value!r} is not NAME=FOLDER", param, ctx)
        return name, folder


@main.command()
@click.option("--name", help="Default: random.")
@role_option
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", default="float32", show_default=True,
              type=click.Choice(["float32", "bfloat16", "float16"]))  # fmt: skip
@click.option("--kv-memory", metavar="SIZE", callback=sized(read_kv_memory),
              help="For KV pages: 4GiB, or a share of what is free beside the weights. "
              "Default: 40%.")  # fmt: skip
@kv_mib_option
@click.option("--tier", metavar="SIZE", default="0B", callback=sized(read_size),
              help="Keep evicted pages in so much memory besides.")  # fmt: skip
@click.option("--tier-file", metavar="PATH", type=click.Path(path_type=Path),
              help="Keep them in this file instead, for the next run, too.")  # fmt: skip
@click.option("--pin", multiple=True, metavar="TEXT",
              help="Never evict this beginning of prompts; several may be given.")  # fmt: skip
@click.option("--page-size", default=16, show_default=True, type=click.IntRange(1, 1024),
              help="Tokens per page.")  # fmt: skip
@click.option(
    "--draft-tokens",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Guess so many tokens of an answer in a step, from what it repeats; 0: none.",
)
@click.option("--max-batch-tokens", default=512, show_default=True, type=click.IntRange(1))
@click.option("--inter-token-s", type=click.FloatRange(0, min_open=True),
              help="Cut prompts so that nobody waits longer for the next token.")  # fmt: skip
@click.option("--adapter", "adapters", multiple=True, type=Adapter(), metavar="NAME=FOLDER",
              help="A LoRA adapter as PEFT saves it; may be given several times.")  # fmt: skip
@click.option("--group", default="", help="Whom it is for, such as a topic; default: everybody.")
@click.option("--threads", default=0, type=click.IntRange(0),
              help="That compute; 0 is torch's own choice.")  # fmt: skip
@click.option("--weights", default="float32", show_default=True,
              type=click.Choice(["float32", "int8"]),
              help="int8: a quarter of the memory, faster alone, not the same tokens.")  # fmt: skip
@click.option("--kernels/--no-kernels", default=True, show_default=True,
              help="Our own for the CPU, compiled on first use, or torch.")  # fmt: skip
@click.option("--transport", default="ucx", show_default=True, type=click.Choice(["ucx", "none"]),
              help="'none': an engine that neither sends nor receives KV.")  # fmt: skip
@model_option
@url_option
@lifeline_option
@click.pass_obj
@clean_errors
def engine(settings: Settings, /, name: str | None, url: str | None, **given: Any) -> None:
    """Join a running system as an engine, at any time."""
    from .processes import EngineProcess

    memory = _kv_memory(given.pop("kv_memory"), given.pop("kv_mib"))
    given["kv_memory"] = memory or DEFAULT_KV_MEMORY
    name = name or f"e-{secrets.token_hex(3)}"
    options = EngineOptions(broker_url(settings, url), name, **given)
    run(EngineProcess(settings, options).run())


def _kv_memory(size: KvMemory | None, mib: int | None) -> KvMemory | None:
    return Size(mib << 20) if mib else size


@main.command()
@click.option("--name", help="Default: random.")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="0.0.0.0 for everybody who can reach this machine: then give keys.")  # fmt: skip
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--keys", "keys_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A file of API keys, one a line. Or MICROSERVE_API_KEYS.")  # fmt: skip
@model_option
@url_option
@lifeline_option
@click.pass_obj
@clean_errors
def gateway(
    settings: Settings, /, name: str | None, url: str | None, keys_file: Path | None, **given: Any
) -> None:
    """Serve OpenAI's HTTP interface, and the paper's; an actor like the others.

    \b
    microserve gateway --port 8000
    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none python my_program.py
    """
    from .gateway.keys import read_keys
    from .processes import gateway

    name = name or f"g-{secrets.token_hex(3)}"
    keys = read_keys(keys_file.read_text()) if keys_file else list(settings.api_keys)
    if keys_file and not keys:
        raise click.UsageError(f"{keys_file} holds no key: one a line is wanted")
    options = GatewayOptions(broker_url(settings, url), name, keys=tuple(keys), **given)
    run(gateway(settings, options))


# --- using it -----------------------------------------------------------------------------------


@main.command()
@click.argument("prompt")
@click.option("--raw", is_flag=True, help="Continue the text as it is, without a chat template.")
@click.option("--max-tokens", default=128, show_default=True, type=click.IntRange(1))
@click.option("--temperature", default=0.0, show_default=True)
@click.option("--top-p", default=1.0, show_default=True)
@click.option("--seed", type=int)
@click.option("--stop", multiple=True, help="End before this text; may be given several times.")
@click.option("--orchestration", help="Default: the router's.")
@click.option("--priority", default=0, show_default=True, help="-100 to 100; the larger first.")
@click.option("--model-name", help="As in the subject; default: the only one that is served.")
@click.option("--json", "as_json", is_flag=True, help="Print every message as a line of JSON.")
@url_option
@click.pass_obj
@clean_errors
def generate(settings: Settings, /, prompt: str, url: str | None, **given: Any) -> None:
    """Ask a running system, and print the answer as it comes. Ctrl-C cancels the request."""
    from .asking import Question, ask

    run(ask(settings, broker_url(settings, url), Question(prompt, **given)))


class Moment(click.ParamType[float]):
    """So long ago, or a date and time; as unix seconds."""

    name = "MOMENT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from .flow_views import moment

        try:
            return moment(str(value), time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


@main.command()
@click.argument("flow")
@click.argument("engine")
@url_option
@click.pass_obj
@clean_errors
def move(settings: Settings, flow: str, engine: str, url: str | None) -> None:
    """Have the request FLOW, which is decoding, go on at ENGINE, if its strategy can."""
    from .moving import move as wish

    run(wish(settings, broker_url(settings, url), flow, engine))


@main.command()
@click.argument("flow", required=False)
@click.option("--latest", default=10, show_default=True, type=click.IntRange(1),
              help="How many flows to list where none is named.")  # fmt: skip
@click.option("--slowest", type=click.IntRange(1), metavar="N",
              help="List the N that took longest instead.")  # fmt: skip
@click.option("--since", type=Moment(), help="List those that began in the last 90s, 10m, 2h or "
              "1d, or since 2026-11-24T18:00.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each flow.")
@click.option("--open", "in_browser", is_flag=True,
              help="Print the FLOW's address at MICROSERVE_JAEGER_URL and open it.")  # fmt: skip
@click.pass_obj
@clean_errors
def trace(
    settings: Settings,
    flow: str | None,
    latest: int,
    slowest: int | None,
    since: float | None,
    as_json: bool,
    in_browser: bool,
) -> None:
    """Draw a FLOW (its id, or how the id begins) as a waterfall; without one, list flows.

    \b
    microserve trace                       the latest ten
    microserve trace --slowest 5 --since 1h
    microserve trace 7c490db1              where the time of this one went
    """
    from . import flow_views

    if flow is None:
        if in_browser:
            raise click.UsageError("--open needs a FLOW; 'microserve trace' lists them")
        which = flow_views.Which(slowest or latest, slowest is not None, since or 0.0)
        flow_views.list_flows(settings, which, as_json)
    elif in_browser:
        flow_views.open_in_jaeger(settings, flow)
    elif as_json:
        flow_views.show_flow_json(settings, flow)
    else:
        flow_views.show_flow(settings, flow)


@main.command()
@click.option("--once", is_flag=True, help="Look for a moment, print what is there, and leave.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each second.")
@url_option
@click.pass_obj
@clean_errors
def top(settings: Settings, once: bool, as_json: bool, url: str | None) -> None:
    """Watch the fleet and its flows until Ctrl-C: queues, pages, rates, states, times.

    The same in a browser: /live of a gateway.
    """
    from .top import top

    run(top(settings, broker_url(settings, url), once, as_json))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each finding.")
@model_option
@url_option
@click.pass_obj
@clean_errors
def doctor(settings: Settings, as_json: bool, model: str | None, url: str | None) -> None:
    """Try what a fleet needs: broker, JetStream, UCX lanes, device, model, traces; who is there.

    Exit status 1 where something is at fault; each fault comes with what to do.
    """
    from .diagnosis import show
    from .doctor import Patient, examine

    run(show(examine(Patient(settings, url, model)), as_json))


@main.group()
def orchestrations() -> None:
    """List, show, draw and check the strategies."""


@orchestrations.command("list")
def list_orchestrations() -> None:
    """All that are installed, one a line."""
    from .showing import list_strategies

    list_strategies()


@orchestrations.command("show")
@click.argument("name")
def show_orchestration(name: str) -> None:
    """The source of one: NAME, or a FILE of your own."""
    from .showing import show_strategy

    show_strategy(name)


@orchestrations.command("draw")
@click.option("--svg", "as_svg", is_flag=True, help="As a picture; default: Mermaid.")
@click.argument("name")
def draw_orchestration(name: str, as_svg: bool) -> None:
    """NAME or FILE as a state diagram, made by walking its paths."""
    from .showing import draw_strategy

    draw_strategy(name, as_svg)


@orchestrations.command("check")
@click.argument("names", nargs=-1)
@clean_errors
def check_orchestrations(names: tuple[str, ...]) -> None:
    """Walk every path of each NAME or FILE (default: all that are installed).

    Exit status 1 where something was found.
    """
    from .showing import check_strategies

    if not check_strategies(names):
        sys.exit(1)


for command in version_commands:
    orchestrations.add_command(command)
