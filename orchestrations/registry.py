"""The strategies and policies there are: each is one file of this folder, or one of a user's."""

from __future__ import annotations

import ast
import importlib
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from .machine import Strategy
from .policies import Policy
from .source import (
    BadStrategy,
    OrchestrationError,
    defines_policy,
    defines_strategy,
    parse,
    require_pure,
)

FOLDER: Final = Path(__file__).parent


class UnknownOrchestration(OrchestrationError):
    """No strategy of this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"no orchestration {name[:80]!r}; there are {', '.join(known) or 'none'}. "
            "To add one, put it into a file of its name, as a function of its name"
        )
        self.name, self.known = name, known


def names(folder: Path = FOLDER) -> tuple[str, ...]:
    """The strategies of the folder: every file ``NAME.py`` that defines ``NAME(state, event)``.
    Found by reading; nothing is executed."""
    return tuple(path.stem for path in sorted(folder.glob("*.py")) if _is_strategy(path))


def strategies() -> dict[str, Strategy]:
    """All strategies that load, by name. A file that does not load is left out, so that one
    person's mistake does not take the others' away: `load` of its name says what is wrong."""
    found: dict[str, Strategy] = {}
    for name in names():
        try:
            found[name] = load(name)
        except BadStrategy:
            continue
    return found


def policy_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """The policies of the folder: every file ``NAME.py`` that defines ``NAME(request, fleet)``."""
    return tuple(path.stem for path in sorted(folder.glob("*.py")) if _is_policy(path))


def policies() -> dict[str, Policy]:
    """All policies that load, by name."""
    found: dict[str, Policy] = {}
    for name in policy_names():
        try:
            found[name] = load_policy_text(_text(FOLDER / f"{name}.py"), FOLDER / f"{name}.py")
        except BadStrategy:
            continue
    return found


def load(name: str) -> Strategy:
    """The strategy of this name.

    Raises:
        UnknownOrchestration: there is none.
        BadStrategy: its file may not be loaded, and why.
    """
    if name not in names():
        if name in policy_names():
            raise BadStrategy(str(FOLDER / f"{name}.py"), "a policy: it chooses, and has no states")
        raise UnknownOrchestration(name, names())
    path = FOLDER / f"{name}.py"
    _read(path)
    try:
        module = importlib.import_module(f"{__package__}.{name}")
    except Exception as error:  # whatever a user's file raises is told as its fault
        raise BadStrategy(str(path), f"{type(error).__name__}: {error}") from error
    return _strategy(module, path)


def require(name: str) -> None:
    """That requests can be served by it: a strategy, or a policy that chooses one.

    Raises:
        UnknownOrchestration: there is neither.
        BadStrategy: its file may not be loaded, and why.
    """
    if name in policy_names():
        path = FOLDER / f"{name}.py"
        load_policy_text(_text(path), path)
    elif name in names():
        load(name)
    else:
        raise UnknownOrchestration(name, (*names(), *policy_names()))


def load_file(path: Path | str) -> Strategy:
    """The strategy that a file holds: the function of the file's name.

    Every version of a file is a module of its own, so flows on an older one are not disturbed.

    Raises:
        BadStrategy: the file cannot be read, is not Python, imports what it may not, raises while
            it is loaded, or has no such function.
    """
    return load_text(_text(Path(path)), path)


def load_text(text: str, path: Path | str) -> Strategy:
    """The same of a text that ``path`` held when it was read; there may be no such file any more.

    Raises:
        BadStrategy: as from `load_file`, but for reading.
    """
    path = Path(path)
    if not defines_strategy(_pure(path, text), path.stem):
        raise BadStrategy(str(path), f"it must define {path.stem}(state, event) -> Step")
    return _strategy(_version(path, text), path)


def load_policy_text(text: str, path: Path | str) -> Policy:
    """The policy that a file's text holds: the function ``NAME(request, fleet)`` of its name.

    Raises:
        BadStrategy: as from `load_text`.
    """
    path = Path(path)
    if not defines_policy(_pure(path, text), path.stem):
        raise BadStrategy(str(path), f"it must define {path.stem}(request, fleet) -> str")
    policy: Policy = _function(_version(path, text), path)
    return policy


def holds_policy(text: str, path: Path | str) -> bool:
    """It is meant to be a policy, not a strategy. Nothing is executed."""
    path = Path(path)
    try:
        return defines_policy(parse(str(path), text), path.stem)
    except BadStrategy:
        return False


def _is_strategy(path: Path) -> bool:
    try:
        return defines_strategy(parse(str(path), _text(path)), path.stem)
    except BadStrategy:  # it is meant to be one: `load` tells what is wrong
        return True


def _is_policy(path: Path) -> bool:
    try:
        return holds_policy(_text(path), path)
    except BadStrategy:  # it cannot be read; `names` has it, so that `load` tells what is wrong
        return False


def _pure(path: Path, text: str) -> ast.Module:
    tree = parse(str(path), text)
    require_pure(str(path), tree)
    return tree


def _version(path: Path, text: str) -> ModuleType:
    version = sha256(f"{path.resolve()}\n{text}".encode()).hexdigest()[:12]
    return _execute(f"orchestration_{path.stem}_{version}", path, text)


def _read(path: Path) -> str:
    """The text of a file that may be executed."""
    text = _text(path)
    _pure(path, text)
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadStrategy(str(path), f"cannot be read: {error}") from None


def _execute(name: str, path: Path, text: str) -> ModuleType:
    """The module, known to the interpreter, since types that it defines are looked up there. Its
    relative imports mean this folder, so that a copy of one of our files works anywhere."""
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__, module.__package__ = str(path), __package__
    sys.modules[name] = module
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:  # whatever a user's file raises is told as its fault
        del sys.modules[name]
        raise BadStrategy(str(path), f"{type(error).__name__}: {error}") from error
    return module


def _strategy(module: ModuleType, path: Path) -> Strategy:
    strategy: Strategy = _function(module, path)
    return strategy


def _function(module: ModuleType, path: Path) -> Any:
    function = getattr(module, path.stem, None)  # the file may have deleted it again
    if not callable(function):
        raise BadStrategy(str(path), f"{path.stem} is not a function")
    return function
