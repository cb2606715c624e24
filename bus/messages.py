"""What the actors say to each other: commands go to one engine, events come back.

A command is an imperative, an event is a past participle. Both are frozen values; on the wire a
command travels in an `Order` and an engine's event in a `Report`, which carry the flow and attempt
they belong to. Ranges of tokens are half-open ``[begin, end)`` with Python's negative indices;
``end=None`` means the whole prompt.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .fleet import Fleet, Role
from .tokens import Tokens

Reason: TypeAlias = Literal[
    "bad_message",
    "bad_range",
    "bad_request",
    "busy",
    "incompatible",
    "internal",
    "no_engine",
    "no_such_flow",
    "not_supported",
    "out_of_order",
    "stale_attempt",
    "stale_epoch",
    "too_large",
    "too_long",
    "transfer_failed",
    "unknown_model",
    "unknown_orchestration",
]
"""Why a command or a request was refused. Closed, so that a strategy can match on it."""

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "error"]


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


# --- commands: router to engine -----------------------------------------------------------------


class Command(Struct, frozen=True, tag=True):
    """An instruction to one engine. Every command ends in its own event or in `Refused`."""

    engine: str


class PrepRecv(Command, frozen=True):
    """Match ``prompt[:end]`` in the prefix cache, reserve pages for the rest, grant writing them.

    Ends in `Prepared`.
    """

    prompt: Tokens
    end: int | None = None


class RemoteSend(Command, frozen=True):
    """Have the KV of ``prompt[begin:end]``, matched or computed, and write it to the granted pages.

    Ends in `Sent`.
    """

    prompt: Tokens
    grant: bytes
    begin: int = 0
    end: int | None = None


class StartGenerate(Command, frozen=True):
    """Compute ``prompt[begin:]`` on top of what is here or is arriving, then decode.

    Tokens go straight to ``reply``, numbered from ``offset``. Ends in `Finished`, after `Started`.
    """

    prompt: Tokens
    begin: int
    sampling: Sampling
    reply: Mailbox
    offset: int = 0


class Commit(Command, frozen=True):
    """Keep a received context in the prefix cache without generating. Ends in `Committed`."""


class Suspend(Command, frozen=True):
    """Stop a running request after this step, keeping its pages. Ends in `Suspended`."""


class Release(Command, frozen=True):
    """Abort in any phase; pages are free once nobody can write them. Ends in `Released`."""


class Query(Command, frozen=True):
    """How much of this prompt is cached here, and how busy is the engine? Ends in `Matched`."""

    prompt: Tokens


AnyCommand: TypeAlias = PrepRecv | RemoteSend | StartGenerate | Commit | Suspend | Release | Query


class Order(Struct, frozen=True):
    """One command on the wire. (flow, attempt, verb) is its identity: a repeat changes nothing."""

    flow: str
    attempt: int
    router: str
    """Whose event subject hears how it ended."""
    command: AnyCommand
    epoch: int = 0
    """The engine incarnation that the router means; 0 means whichever is there."""
    priority: int = 0
    """Of the request that this is for. It travels here and not in the commands, so that every
    command of a flow has it and no strategy need know of it."""
    adapter: str = ""
    """Likewise: KV that was computed with an adapter is of no use without it."""


# --- events: engine to router -------------------------------------------------------------------


class Usage(Struct, frozen=True):
    """What a finished request consumed, in tokens, and where its time went, in seconds."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were not computed by the engine that generated: cached or received."""
    completion_tokens: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Answer(Struct, frozen=True, tag=True):
    """How a command ended, or how far it got: the base of every event that an engine makes."""


class Prepared(Answer, frozen=True):
    """Pages are reserved. The first ``matched`` tokens are here already and need no sending."""

    grant: bytes
    matched: int


class Sent(Answer, frozen=True):
    """The KV arrived, acknowledged by the receiver.

    ``seconds`` runs from the first write to the acknowledgement; ``exposed_s`` is the part of it
    after the last layer was computed.
    """

    num_bytes: int
    seconds: float
    lane: str
    exposed_s: float = 0.0
    matched: int = 0
    """Tokens of the prompt that the sender had cached."""
    num_pages: int = 0
    num_runs: int = 0
    write_s: float = 0.0
    """Of ``seconds``, those in which bytes moved; the rest waited for the computation."""


class Started(Answer, frozen=True):
    """The first token was made."""

    matched: int
    """Prompt tokens that this engine did not have to compute."""


class Finished(Answer, frozen=True):
    reason: FinishReason
    usage: Usage


class Committed(Answer, frozen=True):
    num_tokens: int
    """Tokens of the prompt that are now in the prefix cache."""


class Suspended(Answer, frozen=True):
    num_tokens: int
    """Tokens, prompt included, whose KV is in this engine's pages."""
    answered: Tokens = Tokens()
    """The answer so far, which the user has been sent; the KV of its last token is not computed."""


class Released(Answer, frozen=True):
    pass


class Matched(Answer, frozen=True):
    matched: int
    load: int
    free_pages: int


class Refused(Answer, frozen=True):
    """The command was not carried out and left nothing behind. ``verb`` is the command's name."""

    verb: str
    reason: Reason
    message: str = ""


EngineEvent: TypeAlias = (
    Prepared | Sent | Started | Finished | Committed | Suspended | Released | Matched | Refused
)


class Report(Struct, frozen=True):
    """One engine event on the wire."""

    flow: str
    attempt: int
    engine: str
    epoch: int
    event: EngineEvent


class Followed(Struct, frozen=True, array_like=True, gc=False):
    """More of an answer, for the router that follows it: tokens from ``offset`` on."""

    flow: str
    offset: int
    tokens: Tokens
    choice: int = 0
    """Which of the request's answers."""


Progress: TypeAlias = tuple[Followed, ...]
"""What an engine tells one router of all its flows: on the wire, one message."""


class Accepted(Struct, frozen=True, tag=True):
    """The immediate reply to an order: it will end in a `Report`."""


class Beat(Struct, frozen=True):
    """An engine's heartbeat, twice a second: who it is, what it can do, how busy it is."""

    engine: str
    epoch: int
    """Larger after every restart; an order or grant for another epoch is stale."""
    model: str
    role: Role
    load: int
    """Requests waiting or running."""
    free_pages: int
    total_pages: int
    page_size: int
    max_context: int
    compatibility: str
    """Hash of everything that must be equal for two engines to exchange pages."""
    leaving: bool = False
    """The last beat: the engine is shutting down in good order."""
    slots: int = 0
    """Requests that it computes at once; 0 where it does not say."""
    waiting_tokens: int = 0
    """Of prompts that it has still to compute."""
    prefill_s: float = 0.0
    """Spent on prompts in this epoch so far: two beats tell which share of the time that is."""
    prefill_tokens_per_s: float = 0.0
    """Rates are measured by the engine in its last seconds of work; 0 where there was none yet."""
    decode_step_s: float = 0.0
    """Of a step that computes answers only."""
    decode_base_s: float = 0.0
    """Of such a step, what it takes whatever the number of answers."""
    decode_row_s: float = 0.0
    """What each answer adds to it."""
    transfer_bytes_per_s: float = 0.0
    """Of what it sent, while bytes moved."""
    kv_bytes_per_token: int = 0
    group: str = ""
    """Whom it is for, such as a topic or a tenant; empty is everybody."""
    cache_sequence: int = 0
    """Of the newest `CacheChanged`; 0 where it publishes none."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that it was started with, in order of names."""

    @property
    def credits(self) -> int:
        """Requests that it would begin with at once."""
        return max(0, self.slots - self.load)


class CacheChanged(Struct, frozen=True):
    """Pages that came into an engine's prefix cache and pages that left it, as packed hashes of
    `bus.prefixes`. Whoever misses a number asks for a snapshot, which is the next one in the row
    with ``reset``: what was told before is void."""

    engine: str
    epoch: int
    sequence: int
    """1, 2, 3, ... in one epoch."""
    stored: bytes = b""
    evicted: bytes = b""
    reset: bool = False


# --- events the router makes itself -------------------------------------------------------------


class Submitted(Struct, frozen=True, tag=True):
    request: Request
    fleet: Fleet


class TimedOut(Struct, frozen=True, tag=True):
    """The state lasted longer than it may."""


class Cancelled(Struct, frozen=True, tag=True):
    pass


class EngineLost(Struct, frozen=True, tag=True):
    engine: str
    fleet: Fleet
    """Who is left."""
    answered: Tokens = Tokens()
    """The answer so far, as far as the router has heard; the user may have heard more."""


class Directed(Struct, frozen=True, tag=True):
    """An operator wants what is going on with this request to go on at another engine.

    It is a wish: a strategy that does not know how goes on where it is.
    """

    engine: str
    """One that is alive."""
    answered: Tokens = Tokens()
    """As in `EngineLost`."""


class Superseded(Struct, frozen=True, tag=True):
    """Another router or a newer attempt owns this flow now."""


RouterEvent: TypeAlias = Submitted | TimedOut | Cancelled | EngineLost | Directed | Superseded
Event: TypeAlias = EngineEvent | RouterEvent
