"""What every engine promises, asked of the real one and of its stand-in: whatever it does with
pages, chunks, batches and tiers, the tokens are those of a lone engine that was never disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import pytest
import torch
from msgspec import Struct

from bus.messages import Order, Prepared, PrepRecv, Release, RemoteSend, Sampling, StartGenerate
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from engine.fake_wire import FakeNetwork
from engine.model_files import open_model
from engine.outcomes import Outcome
from engine.runner import Choice, Detokenizer, Row, Runner
from engine.torch_runner import TorchRunner

from .checkpoints import tiny_checkpoint
from .device import store_for
from .rig import BOX, deltas, events, small

PAGE_SIZE = 8
PROMPTS = [[(7 * n + 3 * i) % 500 + 3 for i in range(length)] for n, length in
           enumerate([1, 8, 9, 23, 40])]  # fmt: skip
SAMPLINGS = [Sampling(max_tokens=12), Sampling(max_tokens=12, temperature=1.0, seed=3)]
ASKED = [(prompt, sampling) for prompt in PROMPTS for sampling in SAMPLINGS]


class Kind(Struct, frozen=True):
    """One way to compute: makes a runner of so many pages, its pool in the memory it returns."""

    runner: Callable[[int], tuple[Runner, bytearray]]
    detokenizer: Callable[[], Detokenizer]

    def engine(
        self,
        num_pages: int = 64,
        network: FakeNetwork | None = None,
        name: str = "a",
        num_slots: int = 0,
    ) -> Engine:
        runner, memory = self.runner(num_pages)
        wire = network.wire(name, memoryview(memory), runner.card.shape) if network else None
        store = store_for(runner, num_slots) if num_slots else None
        return Engine(small(name), runner, self.detokenizer, wire, lambda: 0.0, store=store)


@pytest.fixture(scope="module")
def torch_kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    files = open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))

    def runner(num_pages: int) -> tuple[Runner, bytearray]:
        shape = files.pool_shape(num_pages, PAGE_SIZE, "float32")
        memory = bytearray(shape.num_bytes)
        return TorchRunner(files, shape, buffer=memory), memory

    yield Kind(runner, files.tokenizer().detokenizer)
    torch.set_num_threads(threads)


def fake_runner(num_pages: int) -> tuple[Runner, bytearray]:
    card = fake_card(num_pages=num_pages, page_size=PAGE_SIZE)
    memory = bytearray(card.shape.num_bytes)
    return FakeRunner(card, memory), memory


@pytest.fixture(params=["real", "stand-in"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "stand-in":
        return Kind(fake_runner, FakeDetokenizer)
    chosen: Kind = request.getfixturevalue("torch_kind")
    return chosen


Pair: TypeAlias = tuple[list[int], Sampling]


def run(engine: Engine) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while engine.has_work:
        outcomes += engine.step(0.0)
        engine.check_integrity()
    return outcomes


def ask(engine: Engine, flow: str, pair: Pair, priority: int = 0) -> list[Outcome]:
    command = StartGenerate("a", Tokens(pair[0]), 0, pair[1], BOX)
    return engine.handle(Order(flow, 1, "r", command, priority=priority), 0.0)


def said(outcomes: list[Outcome], flow: str) -> list[int]:
    return [token for delta in deltas(outcomes) if delta.flow == flow for token in delta.tokens]


def answers(engine: Engine, pairs: list[Pair], first: str = "f") -> list[list[int]]:
    """All asked at once."""
    for number, pair in enumerate(pairs):
        ask(engine, f"{first}{number}", pair)
    made = run(engine)
    return [said(made, f"{first}{number}") for number in range(len(pairs))]


def alone(kind: Kind, pair: Pair) -> list[int]:
    return answers(kind.engine(), [pair])[0]


def test_batched_cached_and_preempted_answers_equal_those_of_each_prompt_alone(
    kind: Kind,
) -> None:
    tight = kind.engine(9)

    together = answers(tight, ASKED)

    assert together == [alone(kind, pair) for pair in ASKED]
    assert tight.statistics().preemptions > 0


def test_a_warm_cache_changes_no_token(kind: Kind) -> None:
    engine = kind.engine()
    cold = answers(engine, ASKED, "cold")
    computed = engine.statistics().prefill_tokens

    warm = answers(engine, ASKED, "warm")

    assert warm == cold
    assert engine.statistics().prefill_tokens - computed < computed / 2


@pytest.mark.parametrize("prompt", PROMPTS[1:], ids=len)
def test_a_context_written_into_another_engines_pages_gives_the_same_answer(
    kind: Kind, prompt: list[int]
) -> None:
    network = FakeNetwork()
    a, b = (kind.engine(32, network, name) for name in "ab")
    [prepared] = events(b.handle(Order("f0", 1, "r", PrepRecv("b", Tokens(prompt), -1)), 0.0))
    assert isinstance(prepared, Prepared)
    send = RemoteSend("a", Tokens(prompt), prepared.grant, 0, -1)
    a.handle(Order("f0", 1, "r", send), 0.0)
    run(a)
    network.settle()
    for event in network.events["b"]:
        b.handle(event, 0.0)

    received = answers(b, [(prompt, SAMPLINGS[1])])

    assert received == [alone(kind, (prompt, SAMPLINGS[1]))]
    assert b.statistics().prefill_tokens == 1


def test_a_prefill_to_be_sent_shares_its_batches_with_requests(kind: Kind) -> None:
    network = FakeNetwork()
    a, b = (kind.engine(32, network, name) for name in "ab")
    prompt = PROMPTS[4]
    [prepared] = events(b.handle(Order("s", 1, "r", PrepRecv("b", Tokens(prompt), -1)), 0.0))
    assert isinstance(prepared, Prepared)
    ask(a, "f", (PROMPTS[3], SAMPLINGS[0]))
    made = a.step(0.0) + a.step(0.0)
    a.handle(Order("s", 1, "r", RemoteSend("a", Tokens(prompt), prepared.grant, 0, -1)), 0.0)

    before = a.statistics()
    made += a.step(0.0)
    mixed = a.statistics()
    made += run(a)

    assert mixed.prefill_tokens > before.prefill_tokens
    assert mixed.decode_tokens > before.decode_tokens
    assert said(made, "f") == alone(kind, (PROMPTS[3], SAMPLINGS[0]))


def test_what_comes_back_from_the_second_tier_gives_the_same_answer(kind: Kind) -> None:
    engine = kind.engine(10, num_slots=64)
    first = answers(engine, [(PROMPTS[4], SAMPLINGS[0])], "first")
    answers(engine, [([n + 9 for n in range(60)], SAMPLINGS[0])], "large")
    computed = engine.statistics().prefill_tokens

    again = answers(engine, [(PROMPTS[4], SAMPLINGS[0])], "again")

    assert again == first == [alone(kind, (PROMPTS[4], SAMPLINGS[0]))]
    assert engine.statistics().restored_pages > 0
    assert engine.statistics().prefill_tokens - computed <= PAGE_SIZE


def test_who_gives_way_to_an_urgent_request_says_the_same_in_the_end(kind: Kind) -> None:
    engine = kind.engine(8)
    pairs = [(PROMPTS[4], SAMPLINGS[1]), ([n + 5 for n in range(45)], SAMPLINGS[0])]
    ask(engine, "calm", pairs[0])
    made = engine.step(0.0) + engine.step(0.0) + engine.step(0.0) + engine.step(0.0)

    ask(engine, "urgent", pairs[1], priority=1)
    made += run(engine)

    assert engine.statistics().preemptions > 0
    assert [said(made, flow) for flow in ("calm", "urgent")] == [alone(kind, p) for p in pairs]


def test_a_release_frees_everything_and_disturbs_nobody(kind: Kind) -> None:
    engine = kind.engine()
    for number, pair in enumerate(ASKED[:4]):
        ask(engine, f"f{number}", pair)
    made = engine.step(0.0) + engine.step(0.0)

    engine.handle(Order("f1", 1, "r", Release("a")), 0.0)
    made += run(engine)

    for number in (0, 2, 3):
        assert said(made, f"f{number}") == alone(kind, ASKED[number])
    now = engine.statistics()
    assert now.flows == 0
    assert now.free_pages + now.cached_pages == now.total_pages


# --- runners ------------------------------------------------------------------------------------


def test_every_layer_is_told_once_in_order_and_only_choices_are_answered(kind: Kind) -> None:
    runner, _ = kind.runner(4)
    tokens = np.array(PROMPTS[2], np.int32)
    choice = Choice(Sampling(), tokens, len(tokens))
    heard: list[int] = []

    results = runner.run(
        [
            Row(tokens, 0, np.array([0, 1], np.int32), (choice,)),
            Row(tokens, 0, np.array([2, 3], np.int32)),
        ],
        heard.append,
    )

    assert heard == list(range(runner.card.shape.num_layers))
    assert [len(result) for result in results] == [1, 0]


def test_pages_that_were_copied_or_read_and_put_back_are_as_good(kind: Kind) -> None:
    runner, _ = kind.runner(8)
    tokens = np.array(PROMPTS[3], np.int32)
    choice = (Choice(Sampling(), tokens, len(tokens)),)
    [expected] = runner.run([Row(tokens, 0, np.array([0, 1, 2], np.int32), choice)])

    runner.page_memory.copy(np.array([0, 2]), np.array([5, 4]))
    runner.page_memory.write(3, runner.page_memory.read(1))
    moved = np.array([5, 3, 4], np.int32)

    assert runner.run([Row(tokens[22:], 22, moved, choice)]) == [expected]
