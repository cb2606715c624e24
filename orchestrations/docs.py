"""The generated parts of the documentation: drawings, and blocks of ``docs/orchestrations.md``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from .mermaid import mermaid
from .registry import FOLDER, load, strategies
from .svg import svg

DOCS: Final = FOLDER.parent / "docs"
PAGE: Final = "orchestrations.md"
BLOCK: Final = re.compile(
    r"(?P<begin><!-- generated: (?P<what>\w+) (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)
"""A block is made anew on every run; what stands between its markers is not kept."""


def generated(docs: Path = DOCS) -> dict[Path, str]:
    """What every generated file should hold: a drawing of each strategy, and the page."""
    diagrams, page = docs / "diagrams", docs / PAGE
    drawings = {diagrams / f"{name}.mmd": _drawing(name) + "\n" for name in strategies()}
    pictures = {diagrams / f"{name}.svg": _picture(name) + "\n" for name in strategies()}
    return {**drawings, **pictures, page: BLOCK.sub(_block, page.read_text(encoding="utf-8"))}


def drifted(docs: Path = DOCS) -> dict[Path, str]:
    """The generated files that do not hold what they should, with what they should hold."""
    return {
        path: text
        for path, text in generated(docs).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def write(docs: Path = DOCS) -> tuple[Path, ...]:
    """Bring the generated files up to date; returns those that were not."""
    changed = drifted(docs)
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tuple(changed)


@cache
def _drawing(name: str) -> str:
    """A strategy of the folder stays what it is while the program runs."""
    return mermaid(load(name))


@cache
def _picture(name: str) -> str:
    return svg(load(name))


def _block(match: re.Match[str]) -> str:
    return f"{match['begin']}{_fenced(match['what'], match['name'])}\n{match['end']}"


def _fenced(what: str, name: str) -> str:
    if what == "diagram":
        return f"```mermaid\n{_drawing(name)}\n```"
    if what == "source":
        source = (FOLDER / f"{name}.py").read_text(encoding="utf-8").strip()
        return f"```python\n{source}\n```"
    raise ValueError(f"a generated block is a diagram or a source, not {what!r}")
