"""Everything that can be wrong with a model that somebody asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class ModelError(Exception):
    """The family of everything that opening, loading and talking to a model raises."""


class ModelNotFound(ModelError):
    """There is no model where one was looked for."""

    def __init__(self, where: str, advice: str) -> None:
        super().__init__(f"no model at {where}: {advice}")
        self.where, self.advice = where, advice


class BrokenModel(ModelError):
    """The model's files are incomplete, damaged or contradict each other."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why = path, why


class UnsupportedModel(ModelError):
    """The model is whole, but needs something that this engine does not compute."""

    def __init__(self, what: str, given: object, supported: Iterable[str]) -> None:
        self.what, self.given, self.supported = what, given, tuple(supported)
        names = ", ".join(self.supported)
        super().__init__(f"{what} {given!r} is not supported; supported: {names}")


class ChatTemplateError(ModelError):
    """The model's chat template is missing or cannot render these messages."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot make a prompt of these messages: {why}")
        self.why = why
