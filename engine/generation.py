"""One answer that is made here: what was asked for, what it said so far, what it waits for."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from msgspec.structs import replace

from bus.messages import Finished, Sampling, Started
from bus.public import ChoiceDone, Delta, Done, Echo, Spoken, TokenLogprob

from .answer import Answer
from .answers import Answers
from .asked import Asked
from .constraint import Compiled, Mask
from .context import Context
from .guessing import Guessing, behind
from .held import Held
from .outcomes import Outcome, Output, Phase, Told
from .prompt_scores import PromptScores
from .runner import Choice, Detokenizer, Ids, Row, Sampled
from .sequence import Sequence
from .timing import Timing


class Generation(Sequence):
    """One answer: prefills what is missing of the prompt, then decodes until the answer is over.

    Tokens are numbered from the start of the answer, whichever engine made the first ones.
    """

    verb: ClassVar[str] = "StartGenerate"
    preemptible: ClassVar[bool] = True

    def __init__(
        self, asked: Asked, context: Context, answer: Answer, answers: Answers, now: float
    ) -> None:
        super().__init__((asked.flow, asked.attempt), context, now)
        self.asked, self._answer, self._answers = asked, answer, answers
        goes_on = answer.num_tokens > 0 or asked.choice > 0
        self._is_told = goes_on or not _wants_echo(asked.sampling)
        """The user has the prompt, where he wants it."""
        wanted = not self._is_told and asked.sampling.prompt_logprobs is not None
        prompt = context.tokens[: asked.num_prompt]
        self._scores = PromptScores(prompt, asked.sampling, wanted)
        self.ended = False
        """Its last words are said."""
        self.expecting_since: float | None = None
        """When it began to wait for KV or its grammar; None where it need not or need no longer."""
        self.is_compiling = False
        """Its grammar is not ready."""
        self.guessing = Guessing(0)
        """Of what comes next, where that is wanted."""
        self._held = Held()
        self.suspended = False
        self._timing = Timing(self.trail, now)

    @property
    def is_over(self) -> bool:
        """There is nothing to compute."""
        return self._answer.reason is not None and self._scores.is_complete

    @property
    def num_matchable(self) -> int:
        """All but the last token, whose logits nobody kept; less where logits of the prompt are
        wanted."""
        computable = self._scores.num_computable
        return self.context.num_tokens - 1 if computable is None else computable

    def room_at_admission(self, chunk: int) -> int:
        return chunk

    def choices(self, begin: int, end: int) -> tuple[Choice, ...]:
        scores = self._scores.choices(begin, end)
        if end < self.context.num_tokens or self._answer.reason is not None:
            return scores
        return (*scores, self._choice(self.context.tokens, self._held.allowed))

    @property
    def num_guesses(self) -> int:
        if not self.decoding:
            return 0
        tokens, most = self.context.tokens, self._answer.num_left - 1
        return self.guessing.guess(tokens, most, self._held)

    def row(self, num_tokens: int, num_guesses: int = 0) -> Row:
        row, (guesses, masks) = super().row(num_tokens), self.guessing.take(num_guesses)
        if num_guesses == 0:
            return row
        known = behind(self.context.tokens, guesses)
        later = tuple(self._choice(*it) for it in zip(known, masks, strict=True))
        tokens = np.concatenate([row.tokens, guesses])
        return replace(row, tokens=tokens, choices=row.choices + later)

    @property
    def may_branch(self) -> bool:
        """Its prompt is computed, and it is the first of several answers to it."""
        several = self._answers.count > 1 and self.asked.choice == 0
        return several and not self._answer.num_tokens and not self.context.num_pending

    def branched(self, choice: int, detokenizer: Detokenizer, now: float) -> Generation:
        """Another answer to the prompt, whose KV it shares; the last token is computed again, for
        its logits."""
        num_prompt, answer = self.asked.num_prompt, self._answer.another(detokenizer)
        context = self.context.fork(choice, num_prompt, num_prompt - 1, self.context.capacity)
        asked = replace(self.asked, choice=choice)
        branch = Generation(asked, context, answer, self._answers, now)
        branch._held = self._held.copy()
        return branch

    def constrain(self, compiled: Compiled) -> None:
        """Its grammar is ready; what there is of the answer is held to it, too.

        Raises:
            ConstraintFailed: that does not fit, or the grammar is none.
        """
        self._held.hold(compiled, self.context.tokens[self.asked.num_prompt :])
        self.is_compiling = False

    def expect(self, now: float) -> None:
        """It cannot queue yet."""
        self.expecting_since, self.queued_s = now, None

    def queued(self, now: float) -> None:
        """It need not wait for KV, or not any longer."""
        self._expect_no_more(now)
        self.queued_s = now
        self._timing.queued(now)

    def admitted(self, now: float) -> None:
        super().admitted(now)
        self._timing.admitted(min(self.context.num_computed, self.asked.num_prompt), now)

    def preempted(self, now: float) -> None:
        self._timing.paused(now)
        super().preempted(now)

    def suspend(self, now: float) -> None:
        self._timing.paused(now)
        self.suspended = True

    def break_off(self, now: float) -> tuple[Phase, ...]:
        """Of the answers that have ended, too."""
        self._expect_no_more(now)
        self._timing.paused(now)
        return (*self._answers.take(), *super().break_off(now))

    def _expect_no_more(self, now: float) -> None:
        if self.expecting_since is not None:
            self.trail.add("wait", self.expecting_since, now)
        self.expecting_since = None

    def accept(self, sampled: tuple[Sampled, ...], now: float) -> list[Outcome]:
        """What a step found, log-probabilities of the prompt before the next tokens: what the user
        and the router hear of it."""
        chosen, outcomes = self._scores.take(sampled), list[Outcome]()
        if chosen:
            outcomes += [*self._echo(), *self._said(chosen, now)]
        return outcomes + self.end(now) if self.is_over else outcomes

    def _said(self, chosen: tuple[Sampled, ...], now: float) -> list[Outcome]:
        offset = self._answer.num_tokens
        accepted, text = self._accepted(chosen)
        outcomes: list[Outcome] = [self._output(self._delta(offset, accepted, text))]
        if self._timing.spoke(now):
            outcomes += self._started()
        self._count_decoded(len(accepted), now)
        return outcomes

    def _accepted(self, chosen: tuple[Sampled, ...]) -> tuple[list[Sampled], str]:
        """The first, and each after it as long as the guess before it was right: then it was
        chosen after the very tokens that the answer has."""
        accepted, text = list[Sampled](), ""
        for place, sampled in enumerate(chosen):
            accepted.append(sampled)
            text += self._answer.push(sampled.token)
            self.context.append(sampled.token)
            if self._answer.reason is None:
                # What may come next is found out here, where a fault of one answer is its own.
                self._held.push(sampled.token)
            if self._answer.reason or not self.guessing.is_right(place, sampled.token):
                break
            if place + 1 < len(chosen):  # else it is computed again, for what comes after it
                self.advance(1)
        self.guessing.verified(len(accepted) - 1)
        return accepted, text

    def _started(self) -> list[Told]:
        """Once for all answers: they begin after the first."""
        return [] if self.asked.choice else [self._told(Started(self._timing.matched or 0))]

    def end(self, now: float) -> list[Outcome]:
        """The last words of an answer that is over."""
        assert self._answer.reason is not None
        self.ended = True
        self._timing.paused(now)
        reason, answers, num_tokens = self._answer.reason, self._answers, self._answer.num_tokens
        usage = self._timing.usage(self.asked.num_prompt, num_tokens, now)
        answers.end(self.asked.choice, reason, usage, self.trail.take())
        outcomes: list[Outcome] = [*self._echo()]
        if answers.count > 1:
            one = ChoiceDone(self.asked.flow, self.asked.choice, num_tokens, reason)
            outcomes.append(self._output(one))
        return outcomes + self._end_of_all() if answers.is_complete else outcomes

    def _end_of_all(self) -> list[Outcome]:
        answers = self._answers
        done = Done(self.asked.flow, answers.usage.completion_tokens, answers.reason, answers.usage)
        finished = Finished(answers.reason, answers.usage)
        return [self._output(done), Told(*self.key, self.verb, finished, answers.take())]

    def broken(self, message: str) -> Output:
        """What the user hears when we failed."""
        return self._output(
            Done(self.asked.flow, self._answer.num_tokens, "error", message=message)
        )

    def _choice(self, history: Ids, allowed: Mask | None) -> Choice:
        return Choice(
            self.asked.sampling,
            history,
            self.asked.num_prompt,
            index=self.asked.choice,
            banned=self._answer.banned(len(history) - self.context.num_tokens),
            allowed=allowed,
        )

    def _echo(self) -> list[Output]:
        """The prompt, once, where the user wants it."""
        if self._is_told:
            return []
        self._is_told = True
        prompt = self.context.tokens[: self.asked.num_prompt]
        logprobs = self._scores.entries if self.asked.sampling.prompt_logprobs is not None else ()
        echo = Echo(
            self.asked.flow, tuple(prompt.tolist()), self.asked.prompt_text, tuple(logprobs)
        )
        return [self._output(echo)]

    def _count_decoded(self, count: int, now: float) -> None:
        if not self.decoding:
            self.decoding = True
            self._timing.began_decoding(now)
        else:
            self._timing.decoded(count)

    def _delta(self, offset: int, accepted: list[Sampled], text: str) -> Delta:
        asked = self.asked.sampling.logprobs is not None
        logprobs = (TokenLogprob(one.token, one.logprob, one.top) for one in accepted)
        return Delta(
            flow=self.asked.flow,
            offset=offset,
            tokens=tuple(one.token for one in accepted),
            text=text,
            logprobs=tuple(logprobs) if asked else (),
            choice=self.asked.choice,
        )

    def _output(self, message: Spoken) -> Output:
        return Output(*self.key, self.asked.reply, message)

    def _told(self, event: Started) -> Told:
        return Told(*self.key, self.verb, event, self.trail.take())


def _wants_echo(sampling: Sampling) -> bool:
    return sampling.echo or sampling.prompt_logprobs is not None
