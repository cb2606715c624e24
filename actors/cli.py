"""`microserve`: the command, what all of its commands share, and where each of them lives."""

from __future__ import annotations

import click
from msgspec.structs import replace

from observability.logs import STYLES, Style

from . import cli_actors, cli_completion, cli_fleet, cli_use
from .cli_logs import log_as
from .cli_orchestrations import orchestrations
from .settings import from_environment


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="microserve")
@click.option("-v", "--verbose", is_flag=True, help="Log what the actors do to standard error.")
@click.option("--log-format", type=click.Choice(STYLES), help="Default: human; json for programs.")
@click.pass_context
def main(context: click.Context, verbose: bool, log_format: Style | None) -> None:
    """LLM serving as asynchronous actors on a NATS broker.

    Start with 'microserve demo', or with 'microserve up' in one terminal and
    'microserve generate "Hello"' in another.

    The environment: MICROSERVE_NATS_URL, MICROSERVE_NAMESPACE, MICROSERVE_STATE_DIR (traces),
    MICROSERVE_CACHE_DIR (converted models), MICROSERVE_FLEET_KEY (signs KV grants),
    MICROSERVE_LIBUCP, MICROSERVE_JAEGER_URL, MICROSERVE_API_KEYS and MICROSERVE_OPERATOR_KEYS
    (a gateway's, with commas; the latter may read all of its live page), NATS_SERVER_BIN,
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    MICROSERVE_LOG_FORMAT (human, json), MICROSERVE_LOG_LEVEL, NO_COLOR.
    """
    settings = from_environment()
    logs = replace(
        settings.logs,
        style=log_format or settings.logs.style,
        level="INFO" if verbose else settings.logs.level,
    )
    context.obj = replace(settings, logs=logs)
    log_as(context.obj)


for command in (
    *cli_fleet.commands,
    *cli_actors.commands,
    *cli_use.commands,
    *cli_completion.commands,
    orchestrations,
):
    main.add_command(command)
