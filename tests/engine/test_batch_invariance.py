"""The same tokens, to the last bit of their log-probabilities, whatever else is computed with them.

Two hundred random requests, greedy and seeded (sixty where torch computes): alone, and packed at
random, on engines that differ in what they have cached, how they cut prompts, how many threads
compute and how short pages are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from msgspec import Struct
from msgspec.structs import replace

from bus.messages import Order, Sampling, StartGenerate
from bus.tokens import Tokens
from engine.config import EngineConfig
from engine.engine import Engine
from engine.model_files import ModelFiles, open_model
from engine.torch_runner import TorchRunner

from .arithmetics import INVARIANT
from .checkpoints import VOCAB_SIZE, tiny_checkpoint
from .rig import BOX, deltas

NUM_REQUESTS = {"native": 200, "invariant": 60}
"""Torch takes several times as long for such small numbers."""


class Request(Struct, frozen=True):
    flow: str
    prompt: list[int]
    sampling: Sampling


class Setting(Struct, frozen=True):
    """What must not matter."""

    max_batch_tokens: int
    prefill_chunk: int
    num_pages: int = 4000
    page_size: int = 16
    threads: int = 1


ALONE = Setting(max_batch_tokens=512, prefill_chunk=512)
SETTINGS = [
    Setting(max_batch_tokens=512, prefill_chunk=512, threads=2),
    Setting(max_batch_tokens=100, prefill_chunk=33),
    Setting(max_batch_tokens=64, prefill_chunk=7, num_pages=40),
    Setting(max_batch_tokens=1000, prefill_chunk=1000, page_size=5),
]

Answer = list[tuple[int, float]]
"""Tokens with their log-probabilities."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))
    torch.set_num_threads(threads)


def requests(count: int) -> list[Request]:
    """Many begin alike, so that warm engines have parts of them cached."""
    random = np.random.default_rng(7)
    stems = [random.integers(3, VOCAB_SIZE, 120).tolist() for _ in range(5)]
    made = []
    for number in range(count):
        stem = stems[number % 5][: int(random.integers(0, 120))]
        prompt = [*stem, *random.integers(3, VOCAB_SIZE, int(random.integers(1, 60))).tolist()]
        sampling = Sampling(max_tokens=int(random.integers(1, 12)), logprobs=1)
        if number % 2:
            sampling = replace(sampling, temperature=1.5, top_p=0.95, seed=number)
        made.append(Request(f"f{number}", prompt, sampling))
    return made


def engine_of(files: ModelFiles, arithmetic: str, setting: Setting) -> Engine:
    """Of torch one thread: where others want the processors, two of its wait for each other for
    ever. `test_invariant_arithmetic` has more of them compute."""
    shape = files.pool_shape(setting.num_pages, setting.page_size)
    threads = setting.threads if arithmetic == "native" else 1
    runner = TorchRunner(files, shape, arithmetic=INVARIANT[arithmetic](threads))
    runner.pool.fill_(float("nan"))
    config = EngineConfig(
        "e",
        0,
        max_batch_tokens=setting.max_batch_tokens,
        max_running=60,
        prefill_chunk=setting.prefill_chunk,
    )
    return Engine(config, runner, files.tokenizer().detokenizer, None, lambda: 0.0)


def answers(
    engine: Engine, asked: list[Request], at_once: int, attempt: int = 1
) -> dict[str, Answer]:
    """So many new requests between two steps, at random from none to that."""
    random, found = np.random.default_rng(at_once), dict[str, Answer]()
    waiting = list(asked)
    while waiting or engine.has_work:
        count = 1 if at_once == 0 else int(random.integers(0, at_once + 1))
        if at_once or not engine.has_work:
            for request in waiting[:count]:
                command = StartGenerate("e", Tokens(request.prompt), 0, request.sampling, BOX)
                engine.handle(Order(request.flow, attempt, "r", command), 0.0)
            waiting = waiting[count:]
        for delta in deltas(engine.step(0.0)):
            [scored] = delta.logprobs
            found.setdefault(delta.flow, []).append((scored.token, scored.logprob))
    engine.check_integrity()
    return found


@pytest.fixture(scope="module", params=INVARIANT)
def arithmetic(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def alone(files: ModelFiles, arithmetic: str) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    engine = engine_of(files, arithmetic, ALONE)
    for request in requests(NUM_REQUESTS[arithmetic]):
        fresh = len(found) < 5
        one = engine_of(files, arithmetic, ALONE) if fresh else engine
        found |= answers(one, [request], 0)
    assert len(found) == NUM_REQUESTS[arithmetic]
    return found


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"cut at {s.prefill_chunk}")
def test_packed_at_random_cold_and_warm_every_bit_is_that_of_each_request_alone(
    setting: Setting, files: ModelFiles, arithmetic: str, alone: dict[str, Answer]
) -> None:
    engine, asked = engine_of(files, arithmetic, setting), requests(NUM_REQUESTS[arithmetic])
    shuffled = [asked[i] for i in np.random.default_rng(3).permutation(len(asked))]

    cold = answers(engine, asked, at_once=9)
    matched = engine.statistics().matched_tokens
    warm = answers(engine, shuffled, at_once=40, attempt=2)

    assert cold == alone
    assert warm == alone
    assert engine.statistics().matched_tokens > matched
    if setting.num_pages < 200:
        assert engine.statistics().preemptions > 0


def test_the_default_model_says_the_same_alone_and_in_company() -> None:
    files = open_model()
    texts = ["The capital of France is", "def fibonacci(n):", "1 + 1 =", "Once upon a time, " * 20]
    greedy = Sampling(max_tokens=6, logprobs=1)
    samplings = [greedy, replace(greedy, temperature=1.0, seed=5)]
    asked = [
        Request(f"f{index}", files.tokenizer().encode(text), sampling)
        for index, (text, sampling) in enumerate(product(texts, samplings))
    ]
    small = Setting(max_batch_tokens=64, prefill_chunk=17, num_pages=200, threads=2)

    together = answers(engine_of(files, "native", small), asked, at_once=3)

    engine = engine_of(files, "native", Setting(512, 512, num_pages=200))
    assert together == answers(engine, asked, at_once=0)
