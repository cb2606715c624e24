"""`microserve orchestrations`: the commands that change what serves, and look back."""

from __future__ import annotations

from pathlib import Path

import click

from .cli_parts import broker_url, clean_errors, run, url_option
from .settings import Settings


@click.command("load")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@url_option
@click.pass_obj
@clean_errors
def load(settings: Settings, file: Path, url: str | None) -> None:
    """Check FILE and store it as the next version of the strategy that it is named after.

    It serves nobody yet: activate it. A file that is not fit is refused, with the path to its
    fault.

    \b
    Examples:
      microserve orchestrations load mine.py
    """
    from .operating import load_and_tell

    run(load_and_tell(settings, broker_url(settings, url), file))


@click.command("activate")
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--share", default="100%", show_default=True, help="Of new flows; the rest stay.")
@click.option("--default", "is_default", is_flag=True,
              help="For requests that name no orchestration.")  # fmt: skip
@url_option
@click.pass_obj
@clean_errors
def activate(
    settings: Settings, version: str, share: str, is_default: bool, url: str | None
) -> None:
    """Have new flows served by a loaded version: the newest, NAME@3, or NAME@installed.

    Flows in flight finish on the version that they began with. A version that fails is withdrawn by
    itself.

    \b
    Examples:
      microserve orchestrations activate mine --share 10%
      microserve orchestrations activate mine@3 --default
    """
    from .operating import activate, parse_share

    run(activate(settings, broker_url(settings, url), version, parse_share(share), is_default))


@click.command("rollback")
@click.argument("name", required=False)
@url_option
@click.pass_obj
@clean_errors
def rollback(settings: Settings, name: str | None, url: str | None) -> None:
    """Undo the newest activation for requests that ask for NAME; without NAME, for those that name
    no orchestration.

    \b
    Examples:
      microserve orchestrations rollback mine
    """
    from .operating import roll_back

    run(roll_back(settings, broker_url(settings, url), name))


@click.command("history")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each change.")
@url_option
@click.pass_obj
@clean_errors
def history(settings: Settings, name: str | None, as_json: bool, url: str | None) -> None:
    """What was activated when, and what was withdrawn and why.

    \b
    Examples:
      microserve orchestrations history
      microserve orchestrations history mine --json
    """
    from .operating import show_history

    run(show_history(settings, broker_url(settings, url), name, as_json))


@click.command("replay")
@click.argument("flow")
@click.option("--with", "other", default="", metavar="STRATEGY",
              help="NAME, NAME@VERSION or FILE; default: the one that the flow had.")  # fmt: skip
@url_option
@click.pass_obj
@clean_errors
def replay(settings: Settings, flow: str, other: str, url: str | None) -> None:
    """Play a recorded FLOW (its id, or how the id begins) again, and show where a strategy would
    have gone another way.

    \b
    Examples:
      microserve orchestrations replay 7c490db1
      microserve orchestrations replay 7c490db1 --with mine.py
    """
    from .operating import show_replay

    run(show_replay(settings, lambda: broker_url(settings, url), flow, other))


commands = (load, activate, rollback, history, replay)
