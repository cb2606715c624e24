"""A failure of the device or of one answer costs those that it hit, and nobody else."""

from __future__ import annotations

import logging

import pytest

from bus.messages import Refused
from bus.public import Done
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from engine.outcomes import Output, Told
from engine.runner import OnLayer, Row, Sampled

from .rig import BOX, Rig, done, events, pair, small, tokens

PROMPT = list(range(1, 19))


def test_a_failed_batch_ends_its_requests_and_the_engine_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(config=small(max_running=1))
    rig.start("f", PROMPT)
    rig.step()
    rig.start("g", PROMPT)
    rig.runner.fail_next(RuntimeError("out of memory"))

    outcomes = rig.step()

    message = "the engine failed: RuntimeError: out of memory"
    ending = Done("f", 0, "error", message=message)
    refused = Refused("StartGenerate", "internal", message)
    assert outcomes[0] == Output("f", 1, BOX, ending)
    assert events(outcomes) == [refused]
    assert tokens(rig.run(), "g") == rig.runner.continuation(PROMPT, 8)
    assert rig.statistics.failed_steps == 1
    assert "a batch of 1 failed" in caplog.text
    rig.assert_empty()


def test_what_a_failed_batch_wrote_is_not_found_by_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    rig = Rig()
    rig.runner.fail_next(RuntimeError("half a layer"))
    rig.start("f", PROMPT)

    rig.step()

    assert rig.statistics.cached_pages == 0
    assert rig.statistics.free_pages == rig.statistics.total_pages


def test_a_prefill_to_be_sent_is_aborted_and_its_pages_wait_for_the_transport(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    network, a, b = pair()
    a.order("f", a.send(b.prepare("f", PROMPT), PROMPT))
    a.runner.fail_next(RuntimeError("broken"))

    outcomes = a.step()

    assert events(outcomes) == [
        Refused("RemoteSend", "internal", "the engine failed: RuntimeError: broken")
    ]
    assert a.statistics.used_pages == 5
    network.settle()
    assert a.hear() == []
    a.assert_empty()


class Silent(FakeRunner):
    """Forgets the tokens."""

    def run(self, rows: list[Row], on_layer: OnLayer | None = None) -> list[tuple[Sampled, ...]]:
        return [() for _ in super().run(rows, on_layer)]


def test_a_runner_that_does_not_answer_is_a_failure_not_a_hang(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    rig = Rig()
    engine = Engine(small(), Silent(fake_card()), FakeDetokenizer, None, lambda: 0.0)
    rig.engine = engine
    rig.start("f", [1, 2, 3])

    assert done(rig.step()).reason == "error"
    rig.assert_empty()


class Choking(FakeDetokenizer):
    """Cannot read one token."""

    bad = -1

    def push(self, token: int) -> str:
        if token == self.bad:
            raise ValueError(f"token {token} is no text")
        return super().push(token)


def test_an_answer_that_cannot_be_read_ends_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    rig = Rig()

    class ChokingOnSecond(Choking):
        bad = rig.runner.continuation(PROMPT, 2)[1]

    rig.engine = Engine(small(), rig.runner, ChokingOnSecond, None, lambda: 0.0)
    rig.start("f", PROMPT)
    rig.start("g", [9, 9, 9])

    outcomes = rig.run()

    assert tokens(outcomes, "g") == rig.runner.continuation([9, 9, 9], 8)
    assert len(tokens(outcomes, "f")) == 1
    [refused] = [o for o in outcomes if isinstance(o, Told) and isinstance(o.event, Refused)]
    assert refused.flow == "f"
    rig.assert_empty()
