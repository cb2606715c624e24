"""Log lines that say of which flow and trace they are: for people, or as JSON for programs.

Whoever logs something of a flow adds ``extra=about(flow=..., trace=...)``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, TypeAlias

from msgspec import Struct

Style: TypeAlias = Literal["human", "json"]
STYLES: Final[tuple[Style, ...]] = ("human", "json")

COLOURS: Final = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}
"""As terminals number them."""


class LogConfig(Struct, frozen=True):
    style: Style = "human"
    level: str = "WARNING"
    actor: str = ""
    """Whose lines they are; several actors may write to one file."""
    colour: bool = False


def about(**fields: str | int | float) -> dict[str, dict[str, str | int | float]]:
    """``extra`` for a logger, of what a line is about. Names are ``flow``, ``trace`` (its id in any
    backend), ``engine``, ``reason`` and the like."""
    return {"about": fields}


def set_up(config: LogConfig, stream: TextIO) -> None:
    """Every line from now on goes to ``stream``, and nowhere else."""
    handler = logging.StreamHandler(stream)
    formatter = JsonLines if config.style == "json" else Human
    handler.setFormatter(formatter(config))
    logging.basicConfig(level=config.level, handlers=[handler], force=True)


class JsonLines(logging.Formatter):
    """One JSON object a line, whatever was logged: ``time``, ``level``, ``logger``, ``message``,
    ``actor``, what it is about, and ``error`` with a traceback where there is one."""

    def __init__(self, config: LogConfig) -> None:
        super().__init__()
        self._actor = config.actor

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._actor:
            told["actor"] = self._actor
        for name, value in _fields(record).items():
            told.setdefault(name, value)
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


class Human(logging.Formatter):
    """``21:14:05.120 WARNING r0 microserve.router: it failed  flow=7c49 engine=e0``."""

    def __init__(self, config: LogConfig) -> None:
        super().__init__()
        self._config = config

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        who = f"{self._config.actor} {record.name}" if self._config.actor else record.name
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{time} {self._level(record)} {who}: {record.getMessage()}"
        line += f" {fields}" if fields else ""
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line

    def _level(self, record: logging.LogRecord) -> str:
        colour = COLOURS.get(record.levelname) if self._config.colour else None
        return f"\x1b[{colour}m{record.levelname}\x1b[0m" if colour else record.levelname


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found = getattr(record, "about", None)
    return found if isinstance(found, dict) else {}
