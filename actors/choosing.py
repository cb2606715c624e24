"""Which strategy a new flow gets: the one that serves what was asked for, or the one that a policy
which serves it chooses."""

from __future__ import annotations

import logging

from msgspec import Struct

from orchestrations.policies import misnamed

from .catalog import Deciding, Serving
from .effects import Effect, Withdraw
from .flow import Flow
from .table import Table
from .versions import INSTALLED

logger = logging.getLogger("microserve.router")


class Choice(Struct, frozen=True):
    serving: Serving | None
    """None: nobody can serve it any more."""
    effects: tuple[Effect, ...] = ()
    """Versions of policies that were found at fault meanwhile are withdrawn."""


def choose(table: Table, flow: Flow) -> Choice:
    """A policy of users' at fault is withdrawn, and what served before it is asked; instead of one
    that is installed the fallback serves. So a fault costs nobody a request."""
    effects: list[Effect] = []
    while isinstance(found := table.catalog.serving(flow.slot, flow.id), Deciding):
        flow.policy = found.ref
        chosen, fault = _decided(table, flow, found)
        if chosen is not None:
            return Choice(chosen, tuple(effects))
        logger.error("policy %s failed: %s", found.ref, fault)
        if found.ref.number == INSTALLED:
            return Choice(table.catalog.fallback(flow.id), tuple(effects))
        if table.catalog.withdraw(found.ref):
            effects.append(Withdraw(found.ref, fault))
    return Choice(found, tuple(effects))


def _decided(table: Table, flow: Flow, deciding: Deciding) -> tuple[Serving | None, str]:
    """The strategy that it chooses; None, and why, where it is at fault."""
    try:
        name = deciding.policy(flow.request, table.fleet(flow))
    except (Exception, SystemExit) as error:  # a user's file: its faults are not ours
        return None, f"{error!r}"
    chosen = table.catalog.serving(name, flow.id) if name and isinstance(name, str) else None
    if isinstance(chosen, Serving):
        return chosen, ""
    fault = misnamed(name, table.catalog.strategies())
    return None, fault.message if fault else f"{name!r} cannot be served"
