"""What the terminal shows of flows: one as a waterfall, many as a list, either as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Column, Table

from bus.codec import encode_json
from observability.store import FlowHead, TraceStore
from observability.store_errors import StoreError
from observability.summary import flow_summary
from observability.waterfall import render

from .settings import Settings

_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class Which(Struct, frozen=True):
    """Which flows a list has."""

    limit: int
    slowest_first: bool = False
    since_s: float = 0.0
    """Unix seconds; flows that began before are left out."""


def moment(text: str, now_s: float) -> float:
    """Unix seconds of ``text``: so long ago (``90s``, ``10m``, ``1.5h``, ``2d``) or a date and
    time as in ISO 8601, local where it names no zone.

    Raises:
        ValueError: it is neither.
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return now_s - float(ago[1]) * _UNITS_S[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(
            f"{text!r} is no moment: use 90s, 10m, 2h or 1d, or 2026-11-24T18:00"
        ) from None


def show_flow(settings: Settings, flow: str) -> None:
    with _store(settings) as store:
        console = Console()
        console.print(render(store.flow(flow), console.width))


def show_flow_json(settings: Settings, flow: str) -> None:
    """One line: what `observability.summary.FlowSummary` says."""
    with _store(settings) as store:
        click.echo(encode_json(flow_summary(store.flow(flow))))


def list_flows(settings: Settings, which: Which, as_json: bool) -> None:
    """A table, or a line of JSON for each flow."""
    with _store(settings) as store:
        heads = (store.slowest if which.slowest_first else store.latest)(which.limit, which.since_s)
    if as_json:
        for head in heads:
            click.echo(encode_json(head))
        return
    if not heads:
        raise click.ClickException(f"no such flows in {settings.trace_store}")
    whole_id = Column("flow", no_wrap=True, min_width=32)
    table = Table(whole_id, "began", "took", "orchestration", "outcome", box=None, pad_edge=False)
    for head in heads:
        table.add_row(*_row(head))
    Console().print(table)


def open_in_jaeger(settings: Settings, flow: str) -> None:
    """Print the address of a flow's trace, and show it in a browser where there is one."""
    if re.fullmatch(r"[0-9a-f]{32}", flow):
        trace_id = flow  # what it is, unless the request came with a trace of its own
    elif settings.otlp_endpoint:
        raise click.UsageError(f"{flow!r} is not a whole id: give all 32 digits")
    else:
        with _store(settings) as store:
            trace_id = store.flow(flow)[0].context.trace_id
    address = f"{settings.jaeger_url.rstrip('/')}/trace/{trace_id}"
    click.echo(address)
    click.launch(address)


def _row(head: FlowHead) -> tuple[str, ...]:
    began = datetime.fromtimestamp(head.begin_s).strftime("%Y-%m-%d %H:%M:%S")
    outcome = head.outcome or "(going on)"
    return head.flow, began, f"{head.duration_s:.3f} s", head.orchestration, outcome


@contextmanager
def _store(settings: Settings) -> Iterator[TraceStore]:
    """The store, if there is one to read; its failures become one line."""
    if settings.otlp_endpoint:
        where = f"spans go to {settings.otlp_endpoint}"
        raise click.ClickException(
            f"nothing is stored here while {where}: look there, or use --open for Jaeger's page"
        )
    if not settings.trace_store.exists():
        raise click.ClickException(
            f"no traces yet in {settings.trace_store}: run 'microserve up' and send a request"
        )
    try:
        store = TraceStore(settings.trace_store)
        try:
            yield store
        finally:
            store.close()
    except StoreError as error:
        raise click.ClickException(str(error)) from None
