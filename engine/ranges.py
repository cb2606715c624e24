"""The index rules of every command: Python's negative indices, half-open, never clipped."""

from __future__ import annotations

from .refusal import Refusal


def resolve(begin: int, end: int | None, length: int) -> tuple[int, int]:
    """``[begin, end)`` of a prompt of ``length`` tokens as numbers from 0 to ``length``.

    ``end=None`` is the end of the prompt, negative numbers count from there. Unlike a slice, a
    range that reaches outside the prompt is an error: it means that the two sides disagree.

    Raises:
        Refusal: ``bad_range``, unless ``0 <= begin <= end <= length`` in the end.
    """
    first = begin if begin >= 0 else begin + length
    last = length if end is None else end if end >= 0 else end + length
    if 0 <= first <= last <= length:
        return first, last
    raise Refusal(
        "bad_range",
        f"begin={begin}, end={end} of a prompt of {length} tokens is [{first}, {last}): "
        f"give 0 <= begin <= end <= {length}, negative numbers counting from the end",
    )


def num_pages(num_tokens: int, page_size: int) -> int:
    """Pages that hold ``num_tokens`` tokens, the last one perhaps in part."""
    return -(-num_tokens // page_size)
