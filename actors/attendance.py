"""Engines come, say how they are, and go: what a router's core makes of it."""

from __future__ import annotations

import logging
from math import inf
from typing import Final

from bus.messages import Beat, CacheChanged, EngineLost, Order, Release
from bus.prefixes import unpack
from bus.subjects import Subjects
from observability.spans import traceparent

from .effects import Effect, Publish, Send
from .flow import Flow
from .playing import Player
from .table import Table

logger = logging.getLogger("microserve.router")

DEAF_AFTER_S: Final = 1.0
"""Between two ticks, of which there are four in it."""


class Attendance:
    def __init__(self, table: Table, player: Player, subjects: Subjects) -> None:
        self._table, self._player, self._subjects = table, player, subjects
        self._ticked_s = inf

    def heard(self, beat: Beat, now: float) -> list[Effect]:
        """A heartbeat; one of an epoch that is over changes nothing."""
        known = self._table.roster.epoch(beat.engine)
        if beat.epoch < known:
            return []
        effects: list[Effect] = []
        if known and (beat.leaving or beat.epoch > known):
            effects = self.lost(beat.engine, now)
        if beat.leaving:
            return effects
        if beat.epoch > known:
            for why in self._table.standing.kinds(beat.model).strangers(beat):
                logger.warning("%s; they are not paired", why)
        self._table.roster, _ = self._table.roster.heard(beat, now)
        self._table.standing.heard(beat, now)
        return effects + self._ask_for_snapshot(beat.engine, self._table.told.heard(beat, now))

    def cache_changed(self, change: CacheChanged, now: float) -> list[Effect]:
        try:
            wanted = self._table.told.changed(change, now)
        except ValueError as error:
            logger.warning("%s tells of a cache that cannot be: %s", change.engine, error)
            return []
        self._table.sent.evicted(change.engine, unpack(change.evicted))
        return self._ask_for_snapshot(change.engine, wanted)

    def ticked(self, now: float) -> list[Effect]:
        """Who was silent for too long is lost. Where we were stopped ourselves, as by a strategy
        that did not return, or had no connection, beats were not heard: that time does not
        count."""
        deaf_s, self._ticked_s = now - self._ticked_s, now
        if deaf_s > DEAF_AFTER_S:
            self._table.roster = self._table.roster.excused(deaf_s)
        effects: list[Effect] = []
        for engine in self._table.roster.silent(now):
            logger.warning("engine %s is silent: taken for lost", engine)
            effects += self.lost(engine, now)
        return effects

    def lost(self, engine: str, now: float) -> list[Effect]:
        """It is gone; every flow that has something there, or meant to, hears of it."""
        self._table.roster = self._table.roster.without(engine)
        self._table.standing.lost(engine)
        self._table.prefixes.forget(engine)
        effects: list[Effect] = []
        flows = self._table.flows.values()
        concerned = [f for f in flows if engine in f.touched or engine in f.claims]
        for flow in concerned:
            if engine in flow.touched:
                effects.append(self._farewell(flow, engine))
            for verb in flow.forget_engine(engine):
                flow.trace.answered(verb, engine, flow.attempt, now, error=f"{engine} was lost")
            lost = EngineLost(engine, self._table.fleet(flow), flow.answered)
            effects += self._player.play(flow, lost, now)
        return effects

    def _ask_for_snapshot(self, engine: str, wanted: bool) -> list[Effect]:
        return [Publish(self._subjects.cache_snapshot(engine), b"")] if wanted else []

    def _farewell(self, flow: Flow, engine: str) -> Send:
        """An engine that was only slow must not keep pages for a flow that has gone on without
        it. Where it is dead, nobody hears this, and nobody waits for an answer."""
        order = Order(flow.id, flow.attempt, self._table.router, Release(engine))
        return Send(order, traceparent(flow.trace.context))
