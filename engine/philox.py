"""Random numbers that are a function of where they are used, not of what was drawn before.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
(SC 2011): ten rounds that turn a counter and a key into 128 random bits.
"""

from __future__ import annotations

from typing import TypeAlias

Words: TypeAlias = tuple[int, int, int, int]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Four random 32-bit words; all words in and out are unsigned."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (right >> 32) ^ c1 ^ k0,
            right & WORD,
            (left >> 32) ^ c3 ^ k1,
            left & WORD,
        )
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def uniform(seed: int, position: int, choice: int = 0) -> float:
    """The random number in ``[0, 1)`` of this position in the sequence with this seed; another one
    for each of several answers.

    Seeds are taken modulo 2**64. Of the bits 52 are used: then ``uniform * x < x`` for every
    normal float ``x``, so that an inverse distribution function never runs off its end.
    """
    counter = (position & WORD, position >> 32 & WORD, choice, 0)
    first, second, _, _ = philox(counter, (seed & WORD, seed >> 32 & WORD))
    return ((first << 20) | (second >> 12)) / (1 << 52)
