"""`microserve demo` and `up`: a whole fleet with one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from bus.fleet import Role
from engine.kv_memory import Share, read_kv_memory

from .cli_completion import strategies
from .cli_parts import (
    clean_errors,
    invariant_option,
    kv_memory_of,
    kv_mib_option,
    kv_pace_option,
    model_option,
    run,
    sized,
    url_option,
)
from .settings import Settings
from .supervisor import FleetOptions, numbered, roles


@click.command()
@click.option(
    "--prompt", default="Why is the sky blue? Answer in two sentences.", show_default=True
)
@click.option("--max-tokens", default=48, show_default=True, type=click.IntRange(1))
@click.option(
    "--orchestration", default="disaggregated", show_default=True, shell_complete=strategies
)
@model_option
@click.pass_obj
@clean_errors
def demo(
    settings: Settings, prompt: str, max_tokens: int, orchestration: str, model: str | None
) -> None:
    """One request from end to end: a broker, a router, two engines; tokens, then the flow.

    \b
    Examples:
      microserve demo
      microserve demo --orchestration balanced --prompt "Tell me a story."
    """
    from .demo import Demo, show

    run(show(settings, Demo(prompt, max_tokens, orchestration, model)))


@click.command()
@click.option("--engines", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--role", "given_roles", multiple=True, type=click.Choice(get_args(Role)),
              help="One per engine; default: half prefill, half decode.")  # fmt: skip
@click.option(
    "--orchestration", default="disaggregated", show_default=True, shell_complete=strategies
)
@click.option("--kv-memory", metavar="SIZE", callback=sized(read_kv_memory),
              help="For KV pages, each engine; default: 80% of what is free, shared.")  # fmt: skip
@kv_mib_option
@click.option("--kv-checksums", is_flag=True,
              help="Check KV from engine to engine before it is used.")  # fmt: skip
@kv_pace_option
@click.option("--watch", "watched", multiple=True, metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Check a strategy and put it into service, again on every save.")  # fmt: skip
@click.option("--http", "http_port", type=click.IntRange(1, 65535), metavar="PORT",
              help="Start a gateway, too, at 127.0.0.1:PORT.")  # fmt: skip
@invariant_option
@model_option
@url_option
@click.pass_obj
@clean_errors
def up(settings: Settings, /, url: str | None, watched: tuple[Path, ...], **given: Any) -> None:
    """Run a local fleet until Ctrl-C: a broker where none is given, a router and engines.

    \b
    Examples:
      microserve up
      microserve up --engines 3 --role prefill --role decode --role both --http 8000
      microserve up --watch my_strategy.py
      microserve up --nats nats://TOKEN@broker:4222 --kv-memory 4GiB
    """
    from .demo import stay_up

    engines = _engines(given.pop("engines"), given.pop("given_roles"))
    memory = kv_memory_of(given.pop("kv_memory"), given.pop("kv_mib")) or Share(0.8 / len(engines))
    arguments = (
        *("--kv-memory", str(memory)),
        *(("--kv-checksums",) if given.pop("kv_checksums") else ()),
        *pace_arguments(given.pop("kv_max_bytes_per_s")),
        *(() if given.pop("invariant") else ("--no-invariant",)),
    )
    options = FleetOptions(engines, engine_arguments=arguments, **given)
    run(stay_up(settings, options, url or settings.nats_url, watched))


def pace_arguments(bytes_per_s: float | None) -> tuple[str, ...]:
    return () if bytes_per_s is None else ("--kv-max-bytes-per-s", f"{bytes_per_s:.0f}B")


def _engines(count: int, given: tuple[Role, ...]) -> tuple[tuple[str, Role], ...]:
    """Names and roles.

    Raises:
        click.UsageError: there are roles for more engines, or for fewer.
    """
    if not given:
        return roles(count)
    if len(given) != count:
        raise click.UsageError(f"--role was given {len(given)} times for {count} engines")
    return numbered(given)


commands = (demo, up)
