"""Prompts of every awkward length, for pages of 16 tokens and chunks of 512."""

from __future__ import annotations

import random

from bus.tokens import Tokens

LENGTHS = (1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 63, 100, 129, 255, 256, 257, 513, 700, 1023, 1500)


def prompts(vocab_size: int) -> list[Tokens]:
    """Twenty of their own, and three that share a prefix with one of them."""
    own = [Tokens(_ids(length, vocab_size)) for length in LENGTHS]
    longest = own[-1]
    shared = [longest[:n] + Tokens(_ids(20, vocab_size)) for n in (16, 100, 600)]
    return own + shared


def _ids(length: int, vocab_size: int) -> list[int]:
    return random.Random(length).choices(range(3, vocab_size), k=length)
