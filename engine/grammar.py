"""Grammars by llguidance: JSON schemas and regular expressions, compiled on a thread of their own.

Chosen over xgrammar, which wants torch of its own choice, and outlines-core, which computes the
masks of all states before the first token: here a mask is computed when it is needed, in tens of
microseconds, and a grammar compiles in less than a millisecond unless it is very large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from bus.messages import Grammar

from .constraint import Compiled, ConstraintFailed, Mask

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

SILENT = 0
JSON_OPTIONS: JsonCompileOptions = {"whitespace_pattern": r"[ \n\r\t]{0,20}"}
"""Any JSON is valid with more space in it; but small models, once they begin, make nothing else."""


class BadGrammar(ValueError):
    """The text says why no answer can be held to this grammar."""


def check(grammar: Grammar) -> None:
    """
    Raises:
        BadGrammar: it is malformed, or uses what is not supported.
    """
    is_error, messages = LLMatcher.validate_grammar_with_warnings(_source(grammar))
    if is_error:
        raise BadGrammar(_first_lines(messages))


class GrammarCompiler:
    """A `Compiler` for one vocabulary. Tells ``listener``, on its own thread.

    Use as a context manager: leaving it waits for the grammar in hand and forgets the others.
    """

    def __init__(
        self,
        document: str,
        vocab_size: int,
        end_tokens: Iterable[int],
        listener: Callable[[Compiled], None],
    ) -> None:
        """``document`` is the text of a tokenizer.json."""
        self._document, self._vocab_size = document, vocab_size
        self._end_tokens, self._listener = sorted(end_tokens), listener
        self._thread = ThreadPoolExecutor(1, "grammar")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def compile(self, flow: str, attempt: int, grammar: Grammar) -> None:
        self._thread.submit(self._compile, flow, attempt, grammar)

    def _compile(self, flow: str, attempt: int, grammar: Grammar) -> None:
        try:
            event = Compiled(flow, attempt, self.constraint(grammar))
        except BadGrammar as error:
            event = Compiled(flow, attempt, None, str(error))
        except Exception as error:  # the library's own faults: the request must hear of them
            event = Compiled(flow, attempt, None, f"it cannot be compiled: {error!r}")
        self._listener(event)

    def constraint(self, grammar: Grammar) -> MatcherConstraint:
        """The same at once, on this thread.

        Raises:
            BadGrammar
        """
        matcher = LLMatcher(self._tokenizer, _source(grammar), log_level=SILENT)
        if matcher.is_error():
            raise BadGrammar(_first_lines([matcher.get_error()]))
        return MatcherConstraint(matcher)

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        """Takes a quarter of a second for 50,000 tokens, so the first grammar waits for it."""
        return LLTokenizer(self._document, n_vocab=self._vocab_size, eos_token=self._end_tokens)


class MatcherConstraint:
    """A `Constraint` around one matcher."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def push(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    def allowed(self) -> Mask:
        mask = self._matcher.compute_bitmask()
        self._check()
        return np.frombuffer(mask, np.uint8)

    def copy(self) -> MatcherConstraint:
        return MatcherConstraint(self._matcher.deep_copy())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ConstraintFailed(_first_lines([self._matcher.get_error()]))


def _source(grammar: Grammar) -> str:
    match grammar.kind:
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.text)
        case "json_schema":
            try:
                return LLMatcher.grammar_from_json_schema(grammar.text, JSON_OPTIONS)
            except ValueError as error:
                raise BadGrammar(str(error)) from None


def _first_lines(messages: list[str]) -> str:
    """Without the library's excerpts of its own grammar and state."""
    lines = [line.strip() for message in messages for line in message.splitlines()]
    useful = (line for line in lines if line and not line.startswith(("<state>", "1 |", "^")))
    return "; ".join(list(useful)[:4])
