"""`microserve router`, `engine` and `gateway`: one actor each."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from engine.kv_memory import read_kv_memory, read_size

from .cli_completion import strategies
from .cli_logs import log_as
from .cli_parts import (
    broker_url,
    clean_errors,
    invariant_option,
    kv_memory_of,
    kv_mib_option,
    kv_pace_option,
    lifeline_option,
    metrics_option,
    model_option,
    role_option,
    run,
    sized,
    url_option,
)
from .options import DEFAULT_KV_MEMORY, EngineOptions, GatewayOptions, RouterOptions
from .settings import Settings


@click.command()
@click.option("--name", help="Default: random.")
@click.option("--orchestration", default="disaggregated", show_default=True,
              shell_complete=strategies,
              help="What is done with requests that name none.")  # fmt: skip
@click.option("--stall-s", default=120.0, show_default=True, type=click.FloatRange(1),
              help="End a flow that nothing happens to for so long.")  # fmt: skip
@model_option
@url_option
@metrics_option
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
    metrics: tuple[str, int] | None,
    lifeline: bool,
) -> None:
    """Join a system as a router. It needs the model's tokenizer, not its weights.

    \b
    Examples:
      microserve router --nats nats://TOKEN@broker:4222
      microserve router --orchestration policy --metrics 9101
    """
    from .router_process import router

    name = name or f"r-{secrets.token_hex(3)}"
    log_as(settings, name)
    options = RouterOptions(
        broker_url(settings, url), name, model, orchestration, stall_s, metrics, lifeline
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


@click.command()
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
@invariant_option
@click.option("--transport", default="ucx", show_default=True, type=click.Choice(["ucx", "none"]),
              help="'none': an engine that neither sends nor receives KV.")  # fmt: skip
@click.option("--kv-checksums", is_flag=True,
              help="Check KV that comes and goes before it is used.")  # fmt: skip
@kv_pace_option
@model_option
@url_option
@metrics_option
@lifeline_option
@click.pass_obj
@clean_errors
def engine(settings: Settings, /, name: str | None, url: str | None, **given: Any) -> None:
    """Join a running system as an engine, at any time.

    \b
    Examples:
      microserve engine --role decode
      microserve engine --name p1 --role prefill --kv-memory 40% --metrics 9102
      microserve engine --model ~/models/llama --adapter legal=~/adapters/legal
    """
    from .engine_process import EngineProcess

    memory = kv_memory_of(given.pop("kv_memory"), given.pop("kv_mib"))
    given["kv_memory"] = memory or DEFAULT_KV_MEMORY
    name = name or f"e-{secrets.token_hex(3)}"
    log_as(settings, name)
    options = EngineOptions(broker_url(settings, url), name, **given)
    run(EngineProcess(settings, options).run())


@click.command()
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
    Examples:
      microserve gateway --port 8000
      microserve gateway --host 0.0.0.0 --keys keys.txt
      OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none python my_program.py
    """
    from .gateway.keys import read_keys
    from .gateway.process import gateway

    name = name or f"g-{secrets.token_hex(3)}"
    log_as(settings, name)
    keys = read_keys(keys_file.read_text()) if keys_file else list(settings.api_keys)
    if keys_file and not keys:
        raise click.UsageError(f"{keys_file} holds no key: one a line is wanted")
    options = GatewayOptions(broker_url(settings, url), name, keys=tuple(keys), **given)
    run(gateway(settings, options))


commands = (router, engine, gateway)
