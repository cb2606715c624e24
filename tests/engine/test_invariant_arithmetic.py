"""Torch's own parts of a network, arranged so that each row has its bits in every batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.arithmetic import Paging
from engine.invariant_arithmetic import InvariantArithmetic, InvariantLinear
from engine.invariant_attention import SPAN
from engine.rope import rotation, steady_rotation
from engine.runner import Row
from engine.torch_arithmetic import TorchArithmetic
from engine.whole_rows import rows_agree

PAGE, KV_HEADS, HEADS, HEAD_DIM = 4, 2, 6, 16
NUM_TOKENS = SPAN + 60
FREQUENCIES = 1.0 / 10000 ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def arithmetic() -> InvariantArithmetic:
    return InvariantArithmetic(CPU, torch.float32)


def numbers(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(96, 64), (576, 192), (40, 33)])
def test_a_row_of_a_product_is_the_same_alone_and_in_company(
    size: tuple[int, int], threads: int
) -> None:
    weight, bias, x = numbers(*size), numbers(size[0], seed=1), numbers(70, size[1], seed=2)
    linear = arithmetic().linear(weight, bias)

    together = linear(x)

    assert torch.allclose(together, x @ weight.T + bias, atol=1e-4)
    for begin, end in ((0, 1), (69, 70), (3, 5), (5, 18), (20, 61)):
        assert torch.equal(linear(x[begin:end]), together[begin:end])
    assert torch.equal(linear(x[:9], x[:9] @ weight.T), x[:9] @ weight.T + together[:9])


def test_where_many_rows_differ_from_few_each_is_computed_alone() -> None:
    """As a library would that changes its order from a hundred rows on."""
    weight, x = numbers(24, 40), numbers(120, 40, seed=1)

    def fickle(rows: Tensor) -> Tensor:
        halves = rows[:, :20] @ weight[:, :20].T + rows[:, 20:] @ weight[:, 20:].T
        return halves if len(rows) > 100 else rows @ weight.T

    assert not rows_agree(fickle, 40, x)
    assert rows_agree(lambda rows: rows @ weight.T, 40, x)
    alone = InvariantLinear(weight, None, is_whole=False)(x)
    assert torch.equal(alone, torch.cat([row @ weight.T for row in torch.split(x, 1)]))


@pytest.mark.parametrize("width", [1536, 100, 40_000])
def test_a_row_of_a_gate_is_the_same_alone_and_in_company(width: int, threads: int) -> None:
    gate, up = numbers(70, width), numbers(70, width, seed=1)

    together = arithmetic().gated(gate, up)

    assert torch.allclose(together, torch.nn.functional.silu(gate) * up, atol=1e-6)
    for begin, end in ((0, 1), (69, 70), (3, 5), (20, 61)):
        assert torch.equal(arithmetic().gated(gate[begin:end], up[begin:end]), together[begin:end])


def test_a_rotation_is_the_same_alone_and_in_company() -> None:
    positions = np.arange(0, 8000, 77)

    together = steady_rotation(positions, FREQUENCIES, torch.float32, CPU)

    usual = rotation(torch.from_numpy(positions), FREQUENCIES, torch.float32)
    assert torch.allclose(together.cos, usual.cos, atol=1e-6)
    assert torch.allclose(together.sin, usual.sin, atol=1e-6)
    alone = steady_rotation(positions[5:6], FREQUENCIES, torch.float32, CPU)
    assert torch.equal(alone.sin, together.sin[5:6])


class Attending:
    """Sequences over one pool, whose unwritten memory is not a number."""

    def __init__(self, kind: InvariantArithmetic | TorchArithmetic, window: int | None) -> None:
        self.kind, self.window = kind, window
        self.pool = torch.full((400 * 2 * PAGE, KV_HEADS * HEAD_DIM), float("nan"))

    def attend(self, *pieces: tuple[int, int, int]) -> list[Tensor]:
        """Of each piece, tokens ``[begin, end)`` of a sequence by its number; all in one batch."""
        rows = [_row(*piece) for piece in pieces]
        attention = self.kind.attention(rows, Paging(PAGE, FREQUENCIES))
        given = [
            torch.cat([numbers(NUM_TOKENS, heads, HEAD_DIM, seed=s)[b:e] for s, b, e in pieces])
            for heads in (HEADS, KV_HEADS)
        ]
        queries = attention.write(self.pool, given[0], given[1], given[1].flip(-1))
        found = attention.attend(self.pool, queries, KV_HEADS, self.window)
        return list(torch.split(found, [end - begin for _, begin, end in pieces]))


def _row(sequence: int, begin: int, end: int) -> Row:
    first = sequence * (NUM_TOKENS // PAGE + 1)
    pages = np.arange(first, first + -(-end // PAGE), dtype=np.int32)
    return Row(np.zeros(end - begin, np.int32), begin, pages)


@pytest.mark.parametrize("window", [None, 37, SPAN + 20])
def test_attention_is_the_same_however_it_is_cut_and_whoever_is_there(
    window: int | None, threads: int
) -> None:
    whole = Attending(arithmetic(), window).attend((0, 0, NUM_TOKENS))[0]
    usual = Attending(TorchArithmetic(CPU, torch.float32), window).attend((0, 0, NUM_TOKENS))[0]
    assert torch.allclose(whole, usual, atol=1e-5)

    packed, begin = Attending(arithmetic(), window), 0
    for end in (1, 2, 9, 200, SPAN, SPAN + 1, NUM_TOKENS):
        company = (1, begin, end) if end % 2 else (1, 0, min(end, 3))
        [found, _] = packed.attend((0, begin, end), company)
        assert torch.equal(found, whole[begin:end]), (begin, end)
        begin = end


def test_attention_row_by_row_is_the_same_however_it_is_cut() -> None:
    def row_by_row() -> InvariantArithmetic:
        it = arithmetic()
        it._is_whole = lambda *_: False  # type: ignore[method-assign]
        return it

    whole = Attending(row_by_row(), None).attend((0, 0, 40))[0]

    packed = Attending(row_by_row(), None)
    assert torch.equal(packed.attend((0, 0, 13), (1, 0, 2))[0], whole[:13])
    assert torch.equal(packed.attend((0, 13, 40))[0], whole[13:])
    usual = Attending(TorchArithmetic(CPU, torch.float32), None).attend((0, 0, 40))[0]
    assert torch.allclose(whole, usual, atol=1e-5)
