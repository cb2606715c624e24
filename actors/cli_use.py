"""What one does with a running system: ask it, move a request, look at traces, examine it."""

from __future__ import annotations

import time
from typing import Any

import click

from .cli_completion import flows
from .cli_generate import generate
from .cli_parts import broker_url, clean_errors, model_option, run, url_option
from .settings import Settings


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


@click.command()
@click.argument("flow")
@click.argument("engine")
@url_option
@click.pass_obj
@clean_errors
def move(settings: Settings, flow: str, engine: str, url: str | None) -> None:
    """Have the request FLOW, which is decoding, go on at ENGINE, if its strategy can.

    FLOW is its id or the first six digits of it: 'microserve generate --json' begins with it, and
    'microserve top' lists it.

    \b
    Examples:
      microserve trace                # which flows there are
      microserve move 7c490db1 e1
    """
    from .moving import move as wish

    run(wish(settings, broker_url(settings, url), flow, engine))


@click.command()
@click.argument("flow", required=False, shell_complete=flows)
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
    Examples:
      microserve trace                       # the latest ten
      microserve trace --slowest 5 --since 1h
      microserve trace 7c490db1              # where the time of this one went
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


@click.command()
@click.option("--once", is_flag=True, help="Look for a moment, print what is there, and leave.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each second.")
@url_option
@click.pass_obj
@clean_errors
def top(settings: Settings, once: bool, as_json: bool, url: str | None) -> None:
    """Watch the fleet and its flows until Ctrl-C: queues, pages, rates, states, times.

    The same in a browser: /live of a gateway.

    \b
    Examples:
      microserve top
      microserve top --once --json
    """
    from .top import top

    run(top(settings, broker_url(settings, url), once, as_json))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each finding.")
@model_option
@url_option
@click.pass_obj
@clean_errors
def doctor(settings: Settings, as_json: bool, model: str | None, url: str | None) -> None:
    """Try what a fleet needs: broker, JetStream, UCX lanes, device, model, traces; who is there.

    Exit status 1 where something is at fault; each fault comes with what to do.

    \b
    Examples:
      microserve doctor
      microserve doctor --json | jq 'select(.state != "ok")'
    """
    from .diagnosis import show
    from .doctor import Patient, examine

    run(show(examine(Patient(settings, url, model)), as_json))


commands = (generate, move, trace, top, doctor)
