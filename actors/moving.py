"""`microserve move`: an operator's wish that a flow goes on at another engine."""

from __future__ import annotations

import click

from bus.codec import decode_public
from bus.interface import NoResponders, RequestTimedOut
from bus.messages import Accepted, Refused
from bus.nats import NatsBus
from bus.subjects import TOKEN, Subjects

from .settings import Settings

WITHIN_S = 2.0


async def move(
    settings: Settings, url: str, flow: str, engine: str, within_s: float = WITHIN_S
) -> None:
    """Hand the wish to the router that has the flow, which is named by its id or the beginning.

    Raises:
        click.ClickException: no router has it, or there is no such engine.
    """
    if not TOKEN.fullmatch(flow):
        raise click.ClickException(f"{flow[:80]!r} is no flow: give its id, or how it begins")
    subject = Subjects(settings.namespace).move(flow)
    async with NatsBus(url, name="microserve-move") as bus:
        try:
            reply = await bus.request(subject, engine.encode(), timeout_s=within_s)
        except (NoResponders, RequestTimedOut):
            raise click.ClickException(f"no router has a flow {flow}: has it ended?") from None
    answer = decode_public(reply.payload, Accepted | Refused)
    if isinstance(answer, Refused):
        raise click.ClickException(answer.message)
    click.echo(f"told its strategy; migrate_running takes it to {engine}, others stay")
