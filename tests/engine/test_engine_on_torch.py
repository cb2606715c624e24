"""The core on a real network: whatever it does with pages and chunks, the tokens are the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bus.messages import Order, Prepared, PrepRecv, RemoteSend, Sampling, StartGenerate
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake_wire import FakeNetwork
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Outcome
from engine.torch_runner import TorchRunner

from .checkpoints import tiny_checkpoint
from .rig import BOX, deltas, events, small

PROMPTS = [[(7 * n + 3 * i) % 500 + 3 for i in range(length)] for n, length in
           enumerate([1, 8, 9, 23, 40])]  # fmt: skip
SAMPLINGS = [Sampling(max_tokens=12), Sampling(max_tokens=12, temperature=1.0, seed=3)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))
    torch.set_num_threads(threads)


def engine_of(
    files: ModelFiles, num_pages: int, network: FakeNetwork | None = None, name: str = "a"
) -> Engine:
    shape = files.pool_shape(num_pages, 8, "float32")
    memory = bytearray(shape.num_bytes)
    wire = network.wire(name, memoryview(memory), shape) if network else None
    runner = TorchRunner(files, shape, buffer=memory)
    return Engine(small(name), runner, files.tokenizer().detokenizer, wire, lambda: 0.0)


def run(engine: Engine) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while engine.has_work:
        outcomes += engine.step(0.0)
        engine.check_integrity()
    return outcomes


def answers(engine: Engine, pairs: list[tuple[list[int], Sampling]]) -> list[list[int]]:
    """All asked at once."""
    for number, (prompt, sampling) in enumerate(pairs):
        command = StartGenerate("a", Tokens(prompt), 0, sampling, BOX)
        engine.handle(Order(f"f{number}", 1, "r", command), 0.0)
    made = deltas(run(engine))
    return [
        [delta.tokens[0] for delta in made if delta.flow == f"f{number}"]
        for number in range(len(pairs))
    ]


def test_batched_cached_and_preempted_answers_equal_those_of_each_prompt_alone(
    files: ModelFiles,
) -> None:
    asked = [(prompt, sampling) for prompt in PROMPTS for sampling in SAMPLINGS]
    alone = [answers(engine_of(files, 64), [pair])[0] for pair in asked]

    tight = engine_of(files, 9)
    together = answers(tight, asked)

    assert together == alone
    assert tight.statistics().preemptions > 0


@pytest.mark.parametrize("prompt", PROMPTS[1:], ids=len)
def test_a_context_written_into_another_engines_pages_gives_the_same_answer(
    files: ModelFiles, prompt: list[int]
) -> None:
    network = FakeNetwork()
    a, b = (engine_of(files, 32, network, name) for name in "ab")
    [prepared] = events(b.handle(Order("f0", 1, "r", PrepRecv("b", Tokens(prompt), -1)), 0.0))
    assert isinstance(prepared, Prepared)
    send = RemoteSend("a", Tokens(prompt), prepared.grant, 0, -1)
    a.handle(Order("f0", 1, "r", send), 0.0)
    run(a)
    network.settle()
    for event in network.events["b"]:
        b.handle(event, 0.0)

    received = answers(b, [(prompt, SAMPLINGS[1])])

    assert received == answers(engine_of(files, 32), [(prompt, SAMPLINGS[1])])
    assert b.statistics().prefill_tokens == 1
