"""The whole request on the least loaded engine."""

from __future__ import annotations

import pytest

from bus.fleet import Engine, Fleet, NoEngine
from bus.messages import Finished, StartGenerate, Usage
from orchestrations.data_parallel import data_parallel
from orchestrations.machine import Done, Generating, Job

from .flows import PROMPT, REQUEST, play

FLEET = Fleet((Engine("x0", load=2), Engine("x1", load=1)))


def test_the_least_loaded_engine_does_it_all() -> None:
    state, commands = play(data_parallel, fleet=FLEET)

    assert state == Generating(Job(REQUEST, "x1"))
    assert commands == [StartGenerate("x1", PROMPT, 0, REQUEST.sampling, REQUEST.reply)]


def test_when_the_engine_has_finished_nothing_is_left_to_do() -> None:
    state, commands = play(data_parallel, Finished("stop", Usage()), fleet=FLEET)

    assert state == Done("finished")
    assert commands == []


def test_without_engines_there_is_nobody_to_ask() -> None:
    with pytest.raises(NoEngine, match="no engines"):
        play(data_parallel, fleet=Fleet())
