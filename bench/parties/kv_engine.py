"""One engine with the default model and its KV transport, without the bus: a side of `overlap`."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from msgspec import Struct

from bus.tokens import Tokens
from bus.transfers import TransferEvent
from engine.backend import Backend
from engine.config import EngineConfig
from engine.engine import Engine
from engine.model_files import default_cache_dir, open_model
from engine.opening import open_arithmetic
from engine.torch_runner import TorchRunner
from kvtransport.courier import Courier, CourierConfig, steady_clock
from kvtransport.ucx import UcxTransport

from ..driven_engine import DrivenEngine
from .conversation import Conversation, Ready, converse

KEY = b"the benchmark's fleet"
PAGE_SIZE = 16


class KvEngine(Struct, frozen=True):
    """What the party is told first."""

    name: str
    model: str | None
    """None: the default model."""
    num_tokens: int
    """That the pages hold."""
    threads: int = 1
    max_bytes_per_s: float | None = None


class Prepare(Struct, frozen=True, tag=True):
    flow: str
    prompt: list[int]


class Send(Struct, frozen=True, tag=True):
    flow: str
    prompt: list[int]
    grant: bytes


class Prefill(Struct, frozen=True, tag=True):
    flow: str
    prompt: list[int]


class Receive(Struct, frozen=True, tag=True):
    flow: str


Question: TypeAlias = Prepare | Send | Prefill | Receive


@contextmanager
def opened(config: KvEngine) -> Iterator[DrivenEngine]:
    files = open_model(config.model)
    arithmetic = open_arithmetic(files.config, Backend(default_cache_dir(), threads=config.threads))
    shape = files.pool_shape(config.num_tokens // PAGE_SIZE, PAGE_SIZE)
    events: queue.Queue[TransferEvent] = queue.Queue()
    wired = CourierConfig(
        config.name, time.time_ns(), shape, KEY, max_bytes_per_s=config.max_bytes_per_s
    )
    with Courier(wired, UcxTransport(), steady_clock(), events.put) as courier:
        runner = TorchRunner(files, shape, buffer=courier.buffer, arithmetic=arithmetic)
        make = files.tokenizer().detokenizer
        setting = EngineConfig(config.name, 0)
        yield DrivenEngine(Engine(setting, runner, make, courier, time.perf_counter), events)


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(KvEngine)
    with opened(config) as engine:
        conversation.say(Ready())
        async for question in conversation.questions(Question):
            conversation.say(_answer(engine, question))


def _answer(engine: DrivenEngine, question: Question) -> object:
    match question:
        case Prepare(flow, prompt):
            return engine.prepare(flow, Tokens(prompt))
        case Send(flow, prompt, grant):
            return engine.send(flow, Tokens(prompt), grant)
        case Prefill(flow, prompt):
            return engine.prefill(flow, Tokens(prompt))
        case Receive(flow):
            engine.receive(flow)
            return Ready()


if __name__ == "__main__":
    converse(main)
