"""What a strategy's file may hold, checked on its syntax tree before any of it is executed.

This keeps people from accidents: a clock, a file, a counter between calls. It is no sandbox:
whoever may put a strategy before a router is trusted as its owner.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

ALLOWED_MODULES: Final = frozenset(
    {
        "__future__",
        "bus.estimates",
        "bus.fleet",
        "bus.messages",
        "bus.tokens",
        "collections",
        "collections.abc",
        "enum",
        "functools",
        "itertools",
        "math",
        "msgspec",
        "msgspec.structs",
        "operator",
        "typing",
    }
)
"""What a strategy may import, besides ``orchestrations`` and what is in it but for `TOOLS`."""

TOOLS: Final = frozenset(
    {"__main__", "check", "diagram", "docs", "registry", "sandbox", "sandboxed", "source", "svg"}
)
"""Files of this folder that read files, run processes or load modules, and would hand that on."""

IMPURE_NAMES: Final = frozenset(
    {"__import__", "breakpoint", "compile", "eval", "exec", "globals", "input", "open", "print"}
)
"""Builtins that reach outside of the function's arguments."""


class OrchestrationError(Exception):
    """The family of everything that is wrong with an orchestration's name or file."""


class BadStrategy(OrchestrationError):
    """A file that is no strategy, or may not be loaded as one."""

    def __init__(self, path: str, why: str, line: int = 0) -> None:
        super().__init__(f"{path}:{line}: {why}" if line else f"{path}: {why}")
        self.path, self.why, self.line = path, why, line


def parse(path: str, text: str) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        BadStrategy: it is not Python.
    """
    try:
        return ast.parse(text, path)
    except SyntaxError as error:
        raise BadStrategy(path, f"syntax error: {error.msg}", error.lineno or 0) from None
    except ValueError as error:  # null bytes
        raise BadStrategy(path, f"not Python: {error}") from None
    except (RecursionError, MemoryError):  # Python's parser has a limit, and two words for it
        raise BadStrategy(path, "an expression is nested too deep for Python to read") from None


def defines_strategy(tree: ast.Module, name: str) -> bool:
    """Is there a function ``name(state, event)``?"""
    return _defines(tree, name, ["state", "event"])


def defines_policy(tree: ast.Module, name: str) -> bool:
    """Is there a function ``name(request, fleet)``?"""
    return _defines(tree, name, ["request", "fleet"])


def require_pure(path: str, tree: ast.Module) -> None:
    """Nothing in the file reaches beyond the vocabulary.

    Raises:
        BadStrategy: naming the first line that does.
    """
    for node in ast.walk(tree):
        for why in _objections(node):
            raise BadStrategy(path, why, getattr(node, "lineno", 0))


def _defines(tree: ast.Module, name: str, parameters: list[str]) -> bool:
    return any(
        isinstance(node, ast.FunctionDef)
        and node.name == name
        and _parameters(node.args) == parameters
        for node in tree.body
    )


def _parameters(args: ast.arguments) -> list[str]:
    more = [a for a in (args.vararg, args.kwarg) if a]
    return [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs, *more)]


def _objections(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names):
            yield from (_refused(a.name) for a in names if not _is_allowed(a.name))
        case ast.ImportFrom(module, names, level):
            yield from (_refused(m) for m in _sources(module, names, level) if not _is_allowed(m))
        case ast.Global() | ast.Nonlocal():
            kept = ", ".join(node.names)
            yield f"a strategy keeps nothing between calls: carry {kept} in the state"
        case ast.Name(name) if name in IMPURE_NAMES:
            yield f"a strategy reads its arguments and nothing else: {name} is not allowed"
        case ast.AsyncFunctionDef() | ast.Await():
            yield "a strategy decides and waits for nothing: no async"


def _sources(module: str | None, names: list[ast.alias], level: int) -> list[str]:
    """The modules that a ``from`` import reads, in full."""
    if level > 1:
        return ["." * level + (module or "")]
    if level:
        module = f"orchestrations.{module}" if module else "orchestrations"
    if module in ("bus", "orchestrations"):
        return [f"{module}.{a.name}" for a in names]
    return [module or ""]


def _is_allowed(module: str) -> bool:
    package, _, name = module.partition(".")
    return module in ALLOWED_MODULES or (package == "orchestrations" and name not in TOOLS)


def _refused(module: str) -> str:
    allowed = ", ".join(sorted(ALLOWED_MODULES - {"__future__"}))
    return (
        f"a strategy may not import {module}; it may import strategies, orchestrations.machine, "
        f"{allowed}"
    )
