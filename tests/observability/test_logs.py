"""Log lines for people and for programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from observability.logs import LogConfig, about, set_up

logger = logging.getLogger("microserve.test")


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    for handler in before:  # else they would be closed by the next set-up
        root.removeHandler(handler)
    yield
    root.handlers[:] = before
    root.setLevel(level)


def logged(config: LogConfig) -> list[str]:
    stream = io.StringIO()
    set_up(config, stream)
    logger.debug("never seen")
    logger.warning("engine %s is silent", "e0", extra=about(flow="7c49", trace="ab", engine="e0"))
    try:
        raise ValueError("bad\nnews")
    except ValueError:
        logger.exception("it failed")
    return stream.getvalue().splitlines()


def test_json_lines_are_one_object_each_with_flow_and_trace() -> None:
    first, second = map(json.loads, logged(LogConfig("json", "INFO", "r0")))

    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "WARNING",
        "logger": "microserve.test",
        "message": "engine e0 is silent",
        "actor": "r0",
        "flow": "7c49",
        "trace": "ab",
        "engine": "e0",
    }
    assert second["message"] == "it failed"
    assert "ValueError: bad\nnews" in second["error"]


def test_people_read_the_same_in_a_line() -> None:
    first, *rest = logged(LogConfig(actor="r0"))

    assert first[12:] == (
        " WARNING r0 microserve.test: engine e0 is silent  flow=7c49 trace=ab engine=e0"
    )
    assert rest[0].endswith("ERROR r0 microserve.test: it failed")
    assert rest[-2:] == ["ValueError: bad", "news"]


def test_colours_are_for_terminals_that_want_them() -> None:
    assert "\x1b" not in logged(LogConfig())[0]
    assert "\x1b[33mWARNING\x1b[0m" in logged(LogConfig(colour=True))[0]


def test_a_field_cannot_take_the_place_of_what_every_line_has() -> None:
    stream = io.StringIO()
    set_up(LogConfig("json"), stream)

    logger.warning("x", extra=about(message="y", level="z", flow="f"))

    told = json.loads(stream.getvalue())
    assert (told["message"], told["level"], told["flow"]) == ("x", "WARNING", "f")
