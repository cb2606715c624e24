"""The desk for requests that are answered here: `StartGenerate`, `Suspend`, and their steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bus.messages import StartGenerate, Suspended
from bus.tokens import Tokens
from bus.transfers import PoolShape

from .acceptance import accept_offset, accept_prompt, accept_sampling
from .answer import Answer, Ending
from .answers import Answers
from .asked import Asked
from .constraint import Compiled, ConstraintFailed
from .context import Context
from .flows import Flow
from .generation import Generation
from .guessing import Guessing
from .outcomes import Outcome, Told
from .parts import Parts
from .ranges import resolve
from .reception import Reception
from .refusal import Refusal
from .runner import Detokenizer, Ids, ModelCard, Sampled


class Generating:
    def __init__(self, parts: Parts, detokenizer: Callable[[], Detokenizer]) -> None:
        self._parts, self._detokenizer = parts, detokenizer

    def start(self, flow: Flow, command: StartGenerate, now: float) -> list[Outcome]:
        reception = flow.reception
        if reception and reception.committing_since is not None:
            raise Refusal("out_of_order", "StartGenerate after Commit: the context was given away")
        generation = self._accepted(flow, command, reception, now)
        if generation.is_over:  # another engine made the last token but could not say so
            return generation.end(now)
        flow.generation = generation
        self._compile(flow, generation)
        if _awaits(flow, generation):
            generation.expect(now)
        self.begin(flow, generation, now)
        return []

    def begin(self, flow: Flow, generation: Generation, now: float) -> None:
        """Once nothing is awaited any more: take over what was received, queue for the rest."""
        if _awaits(flow, generation):
            return
        if flow.reception:
            self._parts.scheduler.unrest(flow.reception.context)
            generation.context.adopt(flow.reception.context, generation.num_matchable)
            flow.reception = None
        generation.queued(now)
        self._parts.scheduler.add(generation)

    def compiled(self, flow: Flow, event: Compiled, now: float) -> list[Outcome]:
        """The grammar is ready, or cannot be followed."""
        generation = flow.generation
        if generation is None or not generation.is_compiling:
            return []
        try:
            generation.constrain(event)
        except ConstraintFailed as failed:
            refusal = Refusal("bad_request", f"response_format: {failed}")
            return [self.refuse(flow, generation, refusal)]
        self.begin(flow, generation, now)
        return []

    def suspend(self, flow: Flow, now: float) -> list[Outcome]:
        generation = flow.generation
        if generation is None or generation.expecting_since is not None:
            raise Refusal("out_of_order", "Suspend needs a request that has begun: Release it")
        if generation.asked.sampling.n > 1:
            raise Refusal("not_supported", "a request of several answers cannot be suspended")
        self._parts.scheduler.remove(generation)
        self._parts.scheduler.rest(generation.context)
        generation.suspend(now)
        answered = Tokens(generation.context.tokens[generation.asked.num_prompt :].tolist())
        event = Suspended(generation.context.num_computed, answered)
        return [self._parts.told(flow, "Suspend", event, generation.trail.take())]

    def computed(
        self, flow: Flow, generation: Generation, sampled: tuple[Sampled, ...], now: float
    ) -> list[Outcome]:
        """A step computed more of it, and found what was to be known."""
        if generation.may_branch:
            self._branch(flow, generation, now)
        outcomes = generation.accept(sampled, now)
        if generation.ended:
            self._parts.counters.finished += 1
            self._leave(flow, generation)
        return outcomes

    def _branch(self, flow: Flow, generation: Generation, now: float) -> None:
        """The prompt is computed: the other answers to it begin."""
        for choice in range(1, generation.asked.sampling.n):
            branch = generation.branched(choice, self._detokenizer(), now)
            branch.guessing = Guessing(self._parts.config.draft_tokens)
            flow.branches.append(branch)
            branch.queued(now)
            self._parts.scheduler.add(branch)

    def refuse(self, flow: Flow, generation: Generation, refusal: Refusal) -> Told:
        self.drop(flow)
        phases = generation.trail.take()
        return self._parts.refused(flow, generation.verb, refusal, phases)

    def break_off(self, flow: Flow, now: float) -> None:
        """Nobody wants it any more, whatever it is doing."""
        for generation in flow.generations:
            flow.untold += generation.break_off(now)
        self.drop(flow)

    def drop(self, flow: Flow) -> None:
        """Whatever it was doing, it is over, all answers of it; full pages stay cached."""
        for generation in list(flow.generations):
            self._leave(flow, generation)

    def _leave(self, flow: Flow, generation: Generation) -> None:
        flow.leave(generation)
        self._parts.counters.guessed_tokens += generation.guessing.num_guessed
        self._parts.counters.right_guesses += generation.guessing.num_right
        self._parts.scheduler.remove(generation)
        self._parts.scheduler.unrest(generation.context)
        generation.context.drop()

    def _accepted(
        self, flow: Flow, command: StartGenerate, reception: Reception | None, now: float
    ) -> Generation:
        config, card = self._parts.config, self._parts.card
        ids = accept_prompt(command.prompt, card)
        resolve(command.begin, None, len(ids))
        accept_offset(command.offset, len(ids))
        accept_sampling(command.sampling, card)
        _check_choices(command)
        if command.sampling.grammar and self._parts.compiler is None:
            raise Refusal("not_supported", "this engine has no grammars: leave out response_format")
        if self._parts.scheduler.num_waiting >= config.max_waiting:
            raise Refusal("busy", f"{config.max_waiting} commands are waiting: try another engine")
        if reception:
            _check_same(ids, reception.context)
        num_prompt = len(ids) - command.offset
        ending = _ending(command, card, num_prompt)
        answer = Answer(ending, self._detokenizer())
        answer.replay(ids[num_prompt:].tolist())
        context = self._context(flow, ids, num_prompt + ending.max_tokens, reception)
        text = self._text(ids) if command.sampling.echo and not command.offset else ""
        asked = Asked(*flow.key, command.sampling, command.reply, num_prompt, text)
        generation = Generation(asked, context, answer, Answers(command.sampling.n), now)
        generation.guessing = Guessing(config.draft_tokens)
        return generation

    def _compile(self, flow: Flow, generation: Generation) -> None:
        grammar = generation.asked.sampling.grammar
        if grammar is None:
            return
        assert self._parts.compiler is not None
        generation.is_compiling = True
        self._parts.compiler.compile(*flow.key, grammar)

    def _text(self, ids: Ids) -> str:
        detokenizer = self._detokenizer()
        return "".join(map(detokenizer.push, ids.tolist())) + detokenizer.flush()

    def _context(self, flow: Flow, ids: Ids, most: int, reception: Reception | None) -> Context:
        """A received context keeps its place in the queue: it came with its `PrepRecv`."""
        capacity = max(len(ids), most)
        if reception is None:
            return self._parts.context(flow, ids, capacity)
        rank = reception.context.rank
        return Context(self._parts.pages, rank, ids, capacity, flow.adapter)


def _check_choices(command: StartGenerate) -> None:
    if command.sampling.n > 1 and (command.offset or not command.sampling.max_tokens):
        raise Refusal(
            "bad_request",
            f"n={command.sampling.n} with offset={command.offset} and "
            f"max_tokens={command.sampling.max_tokens}: several answers begin at their first "
            "token, and have one",
        )


def _awaits(flow: Flow, generation: Generation) -> bool:
    """Its KV is on its way, or its grammar is not ready."""
    return generation.is_compiling or (flow.reception is not None and flow.reception.is_arriving)


def _ending(command: StartGenerate, card: ModelCard, num_prompt: int) -> Ending:
    most, sampling = min(card.max_context, _pool_tokens(card.shape) + 1), command.sampling
    own = frozenset[int]() if sampling.ignore_eos else card.end_tokens
    return Ending(
        end_tokens=own | frozenset(sampling.stop_tokens),
        stops=sampling.stop,
        max_tokens=min(sampling.max_tokens, most - num_prompt),
        min_tokens=sampling.min_tokens,
    )


def _pool_tokens(shape: PoolShape) -> int:
    return shape.num_pages * shape.page_size


def _check_same(ids: Ids, received: Context) -> None:
    """The prompt is the one whose KV was received, as far as both go."""
    both = min(len(ids), received.num_tokens)
    if np.array_equal(ids[:both], received.tokens[:both]):
        return
    index = int((ids[:both] != received.tokens[:both]).argmax())
    raise Refusal(
        "bad_request",
        f"the prompt differs at index {index} from the one whose context was received: "
        "start with the same prompt, or in another attempt",
    )
