"""How this process writes its log: to standard error, in colour where a terminal wants it."""

from __future__ import annotations

import os
import sys

from msgspec.structs import replace

from observability.logs import set_up

from .settings import Settings


def log_as(settings: Settings, actor: str = "") -> None:
    """From now on; ``actor`` names whose lines they are."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    set_up(replace(settings.logs, actor=actor, colour=colour), sys.stderr)
