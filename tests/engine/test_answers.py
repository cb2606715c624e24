"""Several answers to one prompt: they share its pages, and each is as if it were alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.messages import (
    Finished,
    Grammar,
    Order,
    Release,
    Released,
    Sampling,
    Started,
    StartGenerate,
    Suspend,
)
from bus.public import ChoiceDone, Delta, Done, Echo, Spoken
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from engine.fake_grammar import FakeCompiler
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Outcome, Output, Told
from engine.torch_runner import TorchRunner

from .checkpoints import tiny_checkpoint
from .rig import BOX, Rig, done, events, pair, reason, small

PROMPT = list(range(1, 23))
DRAWN = Sampling(max_tokens=9, temperature=1.0, seed=5, n=4)


def ask(sampling: Sampling, prompt: list[int] = PROMPT, name: str = "a") -> StartGenerate:
    return StartGenerate(name, Tokens(prompt), 0, sampling, BOX)


def said(outcomes: Iterable[Outcome], flow: str = "f") -> list[Spoken]:
    return [o.message for o in outcomes if isinstance(o, Output) and o.flow == flow]


def answers(outcomes: Iterable[Outcome], flow: str = "f") -> dict[int, list[int]]:
    """By choice; offsets must follow on each other."""
    found: dict[int, list[int]] = {}
    for message in said(outcomes, flow):
        if isinstance(message, Delta):
            answer = found.setdefault(message.choice, [])
            assert message.offset == len(answer)
            answer += message.tokens
    return found


def expected(rig: Rig, sampling: Sampling, prompt: list[int] = PROMPT) -> dict[int, list[int]]:
    return {
        choice: rig.runner.continuation(prompt, sampling.max_tokens, sampling, choice)
        for choice in range(sampling.n)
    }


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 22])
def test_every_answer_is_the_one_that_its_own_random_numbers_make(length: int) -> None:
    rig, prompt = Rig(), PROMPT[:length]
    rig.order("f", ask(DRAWN, prompt))

    given = answers(rig.run())

    assert given == expected(rig, DRAWN, prompt)
    assert len({tuple(answer) for answer in given.values()}) == 4
    rig.assert_empty()


def test_the_first_answer_is_the_same_alone() -> None:
    several, alone = Rig(), Rig()
    several.order("f", ask(DRAWN))
    alone.order("f", ask(replace(DRAWN, n=1)))

    assert answers(several.run())[0] == answers(alone.run())[0]


def test_the_prompt_is_computed_once_and_its_pages_are_shared() -> None:
    rig = Rig()
    rig.order("f", ask(replace(DRAWN, max_tokens=2)))

    used = []
    while rig.engine.has_work:
        rig.step()
        used.append(rig.statistics.used_pages)

    assert rig.statistics.prefill_tokens == len(PROMPT) + 3
    assert max(used) <= 6 + 3


def test_each_answer_says_when_it_ends_and_the_request_ends_once() -> None:
    rig = Rig()
    lengths = expected(rig, DRAWN)
    stop = lengths[2][3]
    rig.order("f", ask(replace(DRAWN, stop_tokens=(stop,), echo=True)))

    outcomes = rig.run()

    heard = said(outcomes)
    assert [type(message) for message in heard].count(Echo) == 1
    assert isinstance(heard[0], Echo)
    ends = {m.choice: (m.offset, m.reason) for m in heard if isinstance(m, ChoiceDone)}
    assert ends == {0: (9, "length"), 1: (9, "length"), 2: (4, "stop"), 3: (9, "length")}
    end = done(outcomes)
    assert heard[-1] == end
    assert (end.offset, end.reason) == (31, "length")
    assert end.usage.prompt_tokens == len(PROMPT)
    assert end.usage.completion_tokens == 31
    assert [type(event) for event in events(outcomes)] == [Started, Finished]


def test_the_request_has_stopped_where_all_answers_have() -> None:
    rig = Rig()
    stops = tuple({answer[1] for answer in expected(rig, DRAWN).values()})
    rig.order("f", ask(replace(DRAWN, stop_tokens=stops)))

    assert done(rig.run()).reason == "stop"


def test_one_answer_says_no_more_than_it_ever_did() -> None:
    rig = Rig()
    rig.order("f", ask(replace(DRAWN, n=1, max_tokens=1)))

    heard = said(rig.run())

    assert [type(message) for message in heard] == [Delta, Done]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(12, 40),
    st.integers(1, 30),
    st.integers(2, 5),
    st.integers(1, 16),
    st.lists(st.integers(1, 25), max_size=3),
)
def test_neither_short_memory_nor_neighbours_change_an_answer(
    num_pages: int, length: int, n: int, chunk: int, others: list[int]
) -> None:
    rig = Rig(card=fake_card(num_pages=num_pages), config=small(prefill_chunk=chunk))
    sampling = replace(DRAWN, n=n)
    prompt = list(range(length))
    for number, other in enumerate(others):
        rig.start(f"g{number}", range(500, 500 + other))

    rig.order("f", ask(sampling, prompt))

    assert answers(rig.run()) == expected(rig, sampling, prompt)
    rig.assert_empty()


def test_a_received_context_serves_all_answers() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.run()
    network.settle()
    b.hear()
    b.order("f", ask(DRAWN, name="b"))

    assert answers(b.run()) == expected(b, DRAWN)
    b.assert_empty()


def test_a_release_ends_all_answers() -> None:
    rig = Rig()
    rig.order("f", ask(DRAWN))
    rig.step()
    rig.step()
    rig.step()

    outcomes = rig.order("f", Release("a"))

    assert events(outcomes) == [Released()]
    rig.assert_empty()


def test_a_device_that_fails_ends_all_answers_once() -> None:
    rig = Rig()
    rig.order("f", ask(DRAWN))
    rig.step()
    rig.step()
    rig.step()
    rig.runner.fail_next(RuntimeError("device lost"))

    outcomes = rig.step()

    assert [type(outcome) for outcome in outcomes] == [Output, Told]
    assert done(outcomes).reason == "error"
    rig.assert_empty()


def test_all_answers_are_held_to_the_grammar() -> None:
    compiler = FakeCompiler(1000, [999])
    runner = FakeRunner(fake_card(end_tokens=[999]))
    engine = Engine(small(), runner, FakeDetokenizer, None, lambda: 0.0, compiler)
    sampling = replace(DRAWN, grammar=Grammar("regex", "30 40 50"))
    engine.handle(Order("f", 1, "r", ask(sampling)), 0.0)
    for event in compiler.finish():
        engine.handle(event, 0.0)

    outcomes: list[Outcome] = []
    while engine.has_work:
        outcomes += engine.step(0.0)

    assert answers(outcomes) == {choice: [30, 40, 50, 999] for choice in range(4)}


@pytest.mark.parametrize(
    "sampling",
    [replace(DRAWN, n=0), replace(DRAWN, n=65), replace(DRAWN, max_tokens=0, echo=True)],
)
def test_numbers_that_make_no_sense_are_refused(sampling: Sampling) -> None:
    assert reason(Rig().order("f", ask(sampling))) == "bad_request"


def test_several_answers_cannot_go_on_from_one() -> None:
    command = StartGenerate("a", Tokens(PROMPT), 0, DRAWN, BOX, offset=2)

    assert reason(Rig().order("f", command)) == "bad_request"


def test_several_answers_cannot_be_suspended() -> None:
    rig = Rig()
    rig.order("f", ask(DRAWN))
    rig.step()

    assert reason(rig.order("f", Suspend("a"))) == "not_supported"


# --- on a real network ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))
    torch.set_num_threads(threads)


def real_answers(files: ModelFiles, sampling: Sampling, **config: Any) -> dict[int, list[int]]:
    runner = TorchRunner(files, files.pool_shape(64, 8))
    engine = Engine(small(**config), runner, files.tokenizer().detokenizer, None, lambda: 0.0)
    engine.handle(Order("f", 1, "r", ask(sampling)), 0.0)
    outcomes: list[Outcome] = []
    while engine.has_work:
        outcomes += engine.step(0.0)
        engine.check_integrity()
    return answers(outcomes)


def test_greedy_answers_are_all_the_same_and_drawn_ones_are_not(files: ModelFiles) -> None:
    greedy = real_answers(files, Sampling(max_tokens=16, n=3))
    drawn = real_answers(files, replace(DRAWN, max_tokens=16, n=3))

    assert greedy[0] == greedy[1] == greedy[2]
    assert len({tuple(answer) for answer in drawn.values()}) == 3
    assert drawn == real_answers(files, replace(DRAWN, max_tokens=16, n=3), max_running=1)
