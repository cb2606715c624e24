"""Answers of an engine that are held to a grammar: they wait for it, follow it, and end with it."""

from __future__ import annotations

from typing import Any

import pytest

from bus.messages import Grammar, Order, Refused, Release, Released, Sampling, StartGenerate
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from engine.fake_grammar import FakeCompiler
from engine.outcomes import Outcome

from .rig import BOX, deltas, done, events, pair, reason, small, text, tokens

PROMPT = list(range(1, 11))
END = 999


def regex(pattern: str) -> Grammar:
    return Grammar("regex", pattern)


class GrammarRig:
    def __init__(self, draft_tokens: int = 0) -> None:
        self.compiler, config = FakeCompiler(1000, [END]), small(draft_tokens=draft_tokens)
        runner = FakeRunner(fake_card(end_tokens=[END]))
        self.engine = Engine(config, runner, FakeDetokenizer, None, lambda: 0.0, self.compiler)

    def ask(self, flow: str, words: str, offset: int = 0, **more: Any) -> list[Outcome]:
        sampling = Sampling(grammar=regex(words), **more)
        answer = [int(word) for word in words.split()[:offset]]
        command = StartGenerate("a", Tokens(PROMPT + answer), 0, sampling, BOX, offset)
        return self.engine.handle(Order(flow, 1, "r", command), 0.0)

    def compiled(self) -> list[Outcome]:
        return [o for event in self.compiler.finish() for o in self.engine.handle(event, 0.0)]

    def run(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while self.engine.has_work:
            outcomes += self.engine.step(0.0)
            self.engine.check_integrity()
        return outcomes


def test_nothing_is_computed_before_the_grammar_is_ready() -> None:
    rig = GrammarRig()

    rig.ask("f", "30 50 70")

    assert not rig.engine.has_work
    assert rig.engine.statistics().expecting == 1
    rig.compiled()
    outcomes = rig.run()
    assert tokens(outcomes, "f") == [30, 50, 70, END]
    assert done(outcomes).reason == "stop"


def test_guesses_are_held_to_the_grammar_too() -> None:
    """After 30 50 a third 30 is guessed, where the grammar wants 70: it is not even computed."""
    rig = GrammarRig(draft_tokens=4)
    rig.ask("f", "30 50 30 50 30 50 70 30 50 30")
    rig.compiled()

    outcomes = rig.run()

    assert tokens(outcomes, "f") == [30, 50, 30, 50, 30, 50, 70, 30, 50, 30, END]
    now = rig.engine.statistics()
    assert now.steps < 11
    assert 0 < now.right_guesses == now.guessed_tokens


def test_an_answer_that_goes_on_here_is_held_to_the_rest_of_its_grammar() -> None:
    rig = GrammarRig()
    rig.ask("f", "30 50 70", offset=2)
    rig.compiled()

    assert [delta.tokens for delta in deltas(rig.run())] == [(70,), (END,)]


def test_a_grammar_that_does_not_compile_ends_the_request_with_the_reason() -> None:
    rig = GrammarRig()
    rig.ask("f", "30 x")

    [told] = rig.compiled()

    assert reason([told]) == "bad_request"
    [event] = events([told])
    assert isinstance(event, Refused)
    assert "response_format: invalid literal" in event.message
    assert rig.engine.statistics().flows == 0


def test_a_request_that_is_released_meanwhile_does_not_care_for_its_grammar() -> None:
    rig = GrammarRig()
    rig.ask("f", "30")

    released = rig.engine.handle(Order("f", 1, "r", Release("a")), 0.0)

    assert events(released) == [Released()]
    assert rig.compiled() == []
    assert rig.run() == []


def test_the_answer_begins_when_both_context_and_grammar_are_there() -> None:
    for context_first in (True, False):
        network, a, b = pair()
        compiler = FakeCompiler(1000, [END])
        b.engine = Engine(
            small("b"), b.runner, FakeDetokenizer, network.wire("b", b.runner.memory,
            b.runner.card.shape), lambda: 0.0, compiler,
        )  # fmt: skip
        grant = b.prepare("f", PROMPT)
        a.order("f", a.send(grant, PROMPT))
        a.run()
        b.order(
            "f", StartGenerate("b", Tokens(PROMPT), 9, Sampling(2, grammar=regex("30 40")), BOX)
        )
        network.settle()

        for arrives in (context_first, not context_first):
            assert not b.engine.has_work
            outcomes = b.hear() if arrives else [
                o for event in compiler.finish() for o in b.engine.handle(event, 0.0)
            ]  # fmt: skip
            assert outcomes == []

        assert text(b.run()) == "30 40 "


@pytest.mark.parametrize(
    ("more", "words"), [({"min_tokens": 2}, "min_tokens"), ({"ignore_eos": True}, "ignore_eos")]
)
def test_what_contradicts_a_grammar_is_refused(more: dict[str, Any], words: str) -> None:
    [event] = events(GrammarRig().ask("f", "30", **more))

    assert isinstance(event, Refused)
    assert words in event.message


def test_an_engine_without_a_compiler_says_so() -> None:
    engine = Engine(small(), FakeRunner(fake_card()), FakeDetokenizer, None, lambda: 0.0)
    command = StartGenerate("a", Tokens(PROMPT), 0, Sampling(grammar=regex("a")), BOX)

    assert reason(engine.handle(Order("f", 1, "r", command), 0.0)) == "not_supported"
