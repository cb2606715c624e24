"""What a user was told, read as a client reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from actors.answer import Answer
from bus.messages import Request
from bus.public import Delta, Done, Rejected, Reply, Welcome
from engine.fake import FakeRunner, fake_card


def read(request: Request, told: Sequence[Reply]) -> str:
    """How it ended: every token came once and in order, and is the one that must follow.

    Raises:
        AssertionError: saying what is wrong.
    """
    first, *rest = told
    if isinstance(first, Rejected):
        return first.reason
    assert isinstance(first, Welcome), f"not welcomed: {first}"
    answer, tokens = Answer(), defaultdict[int, list[int]](list)
    for reply in rest:
        answer.put(reply)
    while message := answer.read():
        if isinstance(message, Delta):
            assert message.offset == len(tokens[message.choice]), f"a gap before {message}"
            tokens[message.choice] += message.tokens
        elif isinstance(message, Done):
            _check(request, tokens, message)
            return message.reason
    raise AssertionError(f"no end after {told[-1]}")


def _check(request: Request, tokens: dict[int, list[int]], done: Done) -> None:
    runner = FakeRunner(fake_card(1))
    for choice, answer in tokens.items():
        must = runner.continuation(request.prompt, len(answer), request.sampling, choice)
        assert answer == must, f"choice {choice} of {done.flow} has wrong tokens"
    num_tokens = sum(map(len, tokens.values()))
    whole = request.sampling.max_tokens * request.sampling.n
    assert done.reason != "length" or num_tokens == whole, f"{done.flow} ended too soon"
