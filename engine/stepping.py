"""One step: what the scheduler planned goes to the runner, what comes back goes to the desks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .delivering import Delivering
from .generating import Generating
from .generation import Generation
from .outcomes import Outcome
from .parts import Parts
from .refusal import Refusal
from .runner import Found, NoToken, Row, Runner, Sampled
from .scheduler import Work
from .sending import Sending

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desks:
    """Those whose sequences are computed."""

    generating: Generating
    delivering: Delivering


class Stepping:
    def __init__(
        self, parts: Parts, runner: Runner, clock: Callable[[], float], desks: Desks
    ) -> None:
        self._parts, self._runner, self._clock, self._desks = parts, runner, clock, desks
        self._ended_s = clock()

    def step(self, now: float) -> list[Outcome]:
        began_s = self._clock()
        work = self._parts.scheduler.plan(now)
        planned_s = self._clock() - began_s
        self._copy()
        if not work:
            return []
        try:
            results = self._compute(work)
        except Exception as error:  # whatever the device did, the other requests go on
            logger.exception("%s: a batch of %d failed", self._parts.config.name, len(work))
            self._parts.counters.failed_steps += 1
            return [outcome for piece in work for outcome in self._failed(piece, _words(error))]
        between_s, self._ended_s = began_s - self._ended_s, self._clock()
        took_s = self._ended_s - began_s
        self._parts.scheduler.learn(work, took_s, planned_s)
        self._count(work, took_s, between_s)
        outcomes: list[Outcome] = []
        for piece, found in zip(work, results, strict=True):
            outcomes += self._advanced(piece, found, now, now + took_s)
        return outcomes

    def _copy(self) -> None:
        """Shared pages that are going to be written, before anything writes."""
        copies = self._parts.pages.take_copies()
        if copies:
            sources, targets = np.array(list(copies.values())), np.array(list(copies))
            self._runner.page_memory.copy(sources, targets)

    def _compute(self, work: list[Work]) -> list[tuple[Found, ...]]:
        """What was found for each piece of work; pages to be sent leave while it computes."""
        sendings = [(p.sequence, p.num_tokens) for p in work if isinstance(p.sequence, Sending)]
        for sending in (p.sequence for p in work if p.is_new):
            if isinstance(sending, Sending):
                self._desks.delivering.begin(sending)

        def send(layer: int) -> None:
            for sending, num_tokens in sendings:
                sending.write(layer, sending.context.num_computed + num_tokens)

        rows = [p.sequence.row(p.num_tokens, p.num_guesses) for p in work if p.num_tokens]
        results = iter(self._run(rows, send if sendings else None))
        return [next(results) if piece.num_tokens else () for piece in work]

    def _run(
        self, rows: list[Row], on_layer: Callable[[int], None] | None
    ) -> list[tuple[Found, ...]]:
        if not rows:
            return []
        results = list(self._runner.run(rows, on_layer))
        if [len(result) for result in results] != [len(row.choices) for row in rows]:
            raise RuntimeError("the runner did not answer exactly what the rows asked")
        return results

    def _advanced(
        self, piece: Work, found: tuple[Found, ...], begin_s: float, end_s: float
    ) -> list[Outcome]:
        if not self._is_wanted(piece):
            return []
        sampled = _usable(found, piece.num_guesses)
        if isinstance(sampled, NoToken):
            logger.error("%s: an answer failed: %s", self._parts.config.name, sampled.why)
            # What led to this may be in its pages: who asks again must not find them.
            piece.sequence.context.forget()
            return self._failed(piece, sampled.why)
        try:
            _note_prefill(piece, begin_s, end_s)
            piece.sequence.advance(piece.num_tokens)
            return self._consequences(piece, sampled, end_s)
        except Exception as error:  # one answer must not take the others with it
            logger.exception("%s: an answer failed", self._parts.config.name)
            return self._failed(piece, _words(error))

    def _consequences(self, piece: Work, sampled: tuple[Sampled, ...], now: float) -> list[Outcome]:
        sequence, flow = piece.sequence, self._parts.flows.find(piece.sequence.key)
        assert flow is not None
        if isinstance(sequence, Sending):
            self._desks.delivering.computed(sequence)
            return []
        if not sampled or not isinstance(sequence, Generation):
            return []
        outcomes = self._desks.generating.computed(flow, sequence, sampled, now)
        return outcomes + self._parts.settle(flow)

    def _is_wanted(self, piece: Work) -> bool:
        """Not where another answer of the same request has failed in this very step."""
        flow = self._parts.flows.find(piece.sequence.key)
        return flow is not None and flow.has(piece.sequence)

    def _failed(self, piece: Work, why: str) -> list[Outcome]:
        """The command ends here. What it has of the cache is sound, the rest is dropped."""
        if not self._is_wanted(piece):
            return []
        sequence, flow = piece.sequence, self._parts.flows.find(piece.sequence.key)
        assert flow is not None
        refusal = Refusal("internal", f"the engine failed: {why}")
        outcomes: list[Outcome] = []
        if isinstance(sequence, Generation):
            told = self._desks.generating.refuse(flow, sequence, refusal)
            outcomes = [sequence.broken(refusal.message), told]
        if isinstance(sequence, Sending):
            outcomes = [self._desks.delivering.refuse(flow, sequence, refusal)]
        return outcomes + self._parts.settle(flow)

    def _count(self, work: list[Work], took_s: float, between_s: float) -> None:
        """Whoever decodes has waited for this step since the last one ended: what was done between
        the two is a part of what his token took."""
        counters = self._parts.counters
        counters.stepped(sum(piece.num_tokens > 0 for piece in work), took_s)
        decoded = sum(piece.num_tokens for piece in work if piece.sequence.decoding)
        prefilled = sum(piece.num_tokens for piece in work) - decoded
        counters.decode_tokens += decoded
        counters.prefill_tokens += prefilled
        counters.rates.stepped(prefilled, decoded, took_s + between_s if decoded else took_s)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _usable(found: tuple[Found, ...], num_guesses: int) -> tuple[Sampled, ...] | NoToken:
    """What came before a place at which there is no token. Behind a guess, that counts only when
    the guess is right, and then the next step finds it, too."""
    sampled = list[Sampled]()
    for place, one in enumerate(found):
        if isinstance(one, NoToken):
            is_guessed = place >= len(found) - num_guesses
            return tuple(sampled) if is_guessed else one
        sampled.append(one)
    return tuple(sampled)


def _note_prefill(piece: Work, begin_s: float, end_s: float) -> None:
    sequence = piece.sequence
    if not sequence.decoding and piece.num_tokens:
        cached = sequence.context.num_computed if piece.is_new else 0
        sequence.trail.add("prefill", begin_s, end_s, tokens=piece.num_tokens, cached=cached)
