"""The protocol of `bench engine`: one engine in one process, of whatever environment.

Only the standard library: an engine's own environment has nothing of ours. Lines of JSON, a
question in, an answer out; the first line says which weights and how many threads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Setup:
    folder: str
    """The weights in float32, in the Hugging Face layout."""
    gguf: str
    """The same weights in float32, in one GGUF file."""
    threads: int
    max_batch: int
    max_tokens: int
    """Of one sequence, prompt and answer."""
    extra: str = ""
    """What one engine is told and no other."""


@dataclass(frozen=True)
class Decoded:
    seconds: float
    """From the moment at which every answer has its first token to the last token."""
    tokens: list[list[int]]
    """The whole answers, the most likely tokens."""


class Contestant(Protocol):
    version: str

    def prefill(self, prompt: list[int]) -> float:
        """Seconds until the first token that follows a prompt never seen before."""
        ...

    def decode(self, prompts: list[list[int]], num_new: int) -> Decoded:
        """So many tokens for each; may have the KV of prompts from an earlier call."""
        ...


def serve(opened: Callable[[Setup], Contestant]) -> None:
    """Answer until the input ends. What the engine prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    engine = opened(Setup(**json.loads(sys.stdin.readline())))
    say({"version": engine.version})
    for line in sys.stdin:
        say(_answer(engine, json.loads(line)))


def _answer(engine: Contestant, question: dict[str, Any]) -> object:
    if question["what"] == "prefill":
        return engine.prefill(question["prompt"])
    if question["what"] == "decode":
        return asdict(engine.decode(question["prompts"], question["num_new"]))
    return getattr(engine, question["what"])(question["num_sequences"])
