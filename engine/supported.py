"""The list of what can be run here: errors print it, and the documentation holds it as a table."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from . import families
from .family import Family
from .model_errors import UnsupportedModel

WEIGHT_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q6_K")
"""Of tensors in GGUF files. Others that the gguf package can dequantise are read, too, but nothing
here tests that."""


def _found() -> tuple[Family, ...]:
    modules = sorted(module.name for module in iter_modules(families.__path__))
    return tuple(import_module(f"{families.__name__}.{name}").FAMILY for name in modules)


FAMILIES = _found()
"""One for every file in ``engine/families/``."""


def family_of(architectures: tuple[str, ...]) -> Family:
    """The family of the first architecture that is known.

    Raises:
        UnsupportedModel: none is; the message has the list.
    """
    known = {family.architecture: family for family in FAMILIES}
    for architecture in architectures:
        if architecture in known:
            return known[architecture]
    raise UnsupportedModel("architecture", ", ".join(architectures), map(_described, FAMILIES))


def family_of_gguf(architecture: object, window: int | None) -> Family:
    """The family that GGUF files give this name, with or without a sliding window.

    Raises:
        UnsupportedModel: no family is called so, or none of that name has a window; the message
            has the list.
    """
    named = [family for family in FAMILIES if family.gguf == architecture]
    if not named:
        raise UnsupportedModel(
            "GGUF architecture", architecture, sorted({f.gguf for f in FAMILIES})
        )
    for family in named:
        if family.gguf_has_window == (window is not None):
            return family
    raise UnsupportedModel(f"{architecture}.attention.sliding_window", window, ["0"])


def table() -> str:
    """All families and types of weights, in Markdown."""
    rows = [
        f"| {', '.join(family.models)} | `{family.architecture}` | {_gguf_name(family)} |"
        for family in FAMILIES
    ]
    head = "| models | in config.json | in GGUF files |\n|---|---|---|\n"
    types = f"Weights in GGUF files may be {', '.join(WEIGHT_TYPES)}."
    return head + "\n".join(rows) + f"\n\n{types}\n"


def _gguf_name(family: Family) -> str:
    return f"`{family.gguf}`" + (", with a sliding window" if family.gguf_has_window else "")


def _described(family: Family) -> str:
    return f"{family.architecture} ({', '.join(family.models)})"


# --- the page in the documentation --------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
EXAMPLE = "qwen3"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """``text`` with its generated parts made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{_block(found[2])}\n{found[3]}", text)


def _block(what: str) -> str:
    if what == "families":
        return table()
    source = Path(families.__path__[0], f"{EXAMPLE}.py").read_text(encoding="utf-8")
    return f"```python\n{source}```"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
