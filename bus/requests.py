"""What a user asked for, checked and tokenised, and how the answer is to be made and delivered."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from .tokens import Tokens


class Grammar(Struct, frozen=True):
    """What an answer has to look like: a JSON schema, as JSON text, or a regular expression."""

    kind: Literal["json_schema", "regex"]
    text: str


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. The defaults are greedy decoding of 128 tokens.

    Random numbers are keyed by (seed, position), so the same prompt, parameters and seed give the
    same tokens on any engine; the router picks a seed where the user gave none.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    min_p: float = 0.0
    """Drop tokens less likely than this share of the most likely one."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Generation ends before the first of these strings; they are not part of the text."""
    stop_tokens: tuple[int, ...] = ()
    """Ends generation besides the model's own end tokens."""
    logprobs: int | None = None
    """None: no log-probabilities; n: the chosen token's and those of the n most likely."""
    n: int = 1
    """So many answers to one prompt. The random numbers of each are its own; those of the first are
    the same whatever ``n`` is."""
    min_tokens: int = 0
    """End tokens are not chosen, and stop strings not looked for, in so many first tokens."""
    ignore_eos: bool = False
    """The model's own end tokens end nothing."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, what is added to its logit), each token once."""
    grammar: Grammar | None = None
    """The answer is a sentence of this grammar, unless ``max_tokens`` cuts it off."""
    echo: bool = False
    """The prompt comes before the answer."""
    prompt_logprobs: int | None = None
    """As ``logprobs``, of the prompt's tokens; the engine that generates computes all of them."""


class Mailbox(Struct, frozen=True):
    """Where tokens go: a subject, and how its owner reads.

    ``json`` is one object per message, for anybody's client; ``msgpack`` is a `Batch`: one message
    per engine step with every flow that this mailbox has on that engine.
    """

    subject: str
    encoding: Literal["json", "msgpack"] = "json"


class Request(Struct, frozen=True):
    """What a user asked for, checked and tokenised by the router.

    Where an answer goes on that was begun, the prompt ends with the tokens of it so far:

    ```
    prompt  |<-------- the user's --------->|<-- answered so far -->|
            0                     len(prompt) - offset         len(prompt)
    ```
    """

    prompt: Tokens
    sampling: Sampling
    reply: Mailbox
    priority: int = 0
    """The larger goes first, wherever requests wait for each other."""
    group: str = ""
    """What it belongs to, such as a topic or a tenant: its like may share engines and prefixes."""
    engine: str = ""
    """The engine that the asker wants it on; empty leaves it to the strategy."""
    offset: int = 0
    """How many tokens of the answer the prompt ends with."""
    adapter: str = ""
    """What is added to the model's weights for it; empty: nothing."""

    def going_on(self, answered: Tokens) -> Request:
        """The same request, to be answered from its ``answered`` first tokens on."""
        asked = self.prompt[: len(self.prompt) - self.offset]
        return replace(self, prompt=asked + answered, offset=len(answered))
