"""The network by our own kernels against transformers, for every family."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from engine.arithmetic import Arithmetic
from engine.backend import Backend
from engine.invariant_arithmetic import InvariantArithmetic
from engine.kernel_build import NoKernels
from engine.kernel_limits import obstacle
from engine.model_files import ModelFiles, open_model
from engine.native_arithmetic import NativeArithmetic
from engine.opening import open_arithmetic
from engine.runner import Row
from engine.torch_arithmetic import TorchArithmetic
from engine.torch_runner import TorchRunner

from .arithmetics import CACHE, native
from .checkpoints import FAMILIES, tiny_checkpoint
from .test_torch_runner import (
    LENGTHS,
    NUM_PAGES,
    PAGE_SIZE,
    SEED,
    Pages,
    assert_close,
    random_ids,
    reference_logits,
    row,
)

LEFT_TO_TORCH = {"smollm2"}
"""Whose tiny model has heads of 8 numbers."""
COMPUTED = [family for family in FAMILIES if family not in LEFT_TO_TORCH]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelFiles]:
    root = tmp_path_factory.mktemp("models")
    return lambda family: open_model(str(tiny_checkpoint(root / family, family, SEED)))


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def runner_of(files: ModelFiles, arithmetic: Arithmetic | None = None) -> TorchRunner:
    """With a pool of garbage: whoever reads an unwritten slot gets NaN."""
    arithmetic = arithmetic or native(threads=2)
    shape = files.pool_shape(NUM_PAGES, PAGE_SIZE, weights=arithmetic.weights)
    runner = TorchRunner(files, shape, arithmetic=arithmetic)
    runner.pool.fill_(float("nan"))
    return runner


@pytest.mark.parametrize("family", COMPUTED)
def test_logits_equal_transformers_and_are_the_same_bits_however_the_prompt_is_cut(
    family: str, opened: Callable[[str], ModelFiles]
) -> None:
    ids, runner = random_ids(100), runner_of(opened(family))
    whole = runner.logits([row(ids, 0, 100, Pages(1).take(100))])

    for chunk in (1, 7, 16, 48):
        pages = Pages(chunk).take(100)
        bounds = [(begin, min(begin + chunk, 100)) for begin in range(0, 100, chunk)]
        cut = [runner.logits([row(ids, *bound, pages)]) for bound in bounds]

        assert torch.equal(cut[-1], whole)
        ends = torch.tensor([end - 1 for _, end in bounds])
        assert_close(torch.cat(cut), reference_logits(family, ids)[ends])


@pytest.mark.parametrize("family", COMPUTED)
def test_rows_of_all_kinds_in_one_batch_do_not_disturb_each_other(
    family: str, opened: Callable[[str], ModelFiles]
) -> None:
    runner, pages = runner_of(opened(family)), Pages()
    prompts = [(random_ids(length, seed=length), pages.take(length)) for length in LENGTHS]
    for ids, blocks in prompts:
        if len(ids) > 2:
            runner.run([Row(ids[: len(ids) // 2], 0, blocks)])

    rows = [row(ids, len(ids) // 2 if len(ids) > 2 else 0, len(ids), b) for ids, b in prompts]
    given = runner.logits(rows)

    wanted = [reference_logits(family, ids)[-1] for ids, _ in prompts]
    assert_close(given, torch.stack(wanted))
    for one, alone in zip(given, rows, strict=True):
        assert torch.equal(one, runner.logits([alone])[0])


def test_int8_weights_say_nearly_the_same_and_their_pages_are_not_mixed_with_others(
    opened: Callable[[str], ModelFiles],
) -> None:
    files, ids = opened("qwen3"), random_ids(60)
    runner = runner_of(files, native("int8"))

    given = runner.logits([row(ids, 0, 60, Pages().take(60))])[0]

    wanted = reference_logits("qwen3", ids)[-1]
    assert torch.cosine_similarity(given, wanted, dim=0) > 0.99
    assert runner.card.shape.fingerprint != runner_of(files).card.shape.fingerprint
    with pytest.raises(ValueError, match="the pool of this model"):
        TorchRunner(files, files.pool_shape(1, 16), arithmetic=native("int8"))


# --- which arithmetic ---------------------------------------------------------------------------


def test_kernels_compute_where_they_can(opened: Callable[[str], ModelFiles]) -> None:
    arithmetic = open_arithmetic(opened("llama").config, Backend(CACHE, threads=2))

    assert isinstance(arithmetic, NativeArithmetic)
    assert arithmetic.kernels.threads == 2
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (Backend(CACHE, native=False), "they are switched off"),
        (Backend(CACHE, dtype="bfloat16"), "not bfloat16 on cpu"),
        (Backend(CACHE, device="cuda"), "not float32 on cuda"),
    ],
)
def test_where_they_cannot_torch_does_and_one_line_says_why(
    backend: Backend,
    reason: str,
    opened: Callable[[str], ModelFiles],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        arithmetic = open_arithmetic(opened("llama").config, backend)

    assert isinstance(arithmetic, InvariantArithmetic)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("computing by torch, without native kernels: ")
    assert reason in line


def test_torch_may_choose_its_own_order_where_that_is_wanted(
    opened: Callable[[str], ModelFiles],
) -> None:
    backend = Backend(CACHE, native=False, invariant=False)

    assert isinstance(open_arithmetic(opened("llama").config, backend), TorchArithmetic)


def test_a_machine_without_a_compiler_computes_by_torch(
    opened: Callable[[str], ModelFiles],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))

    arithmetic = open_arithmetic(opened("llama").config, Backend(tmp_path))

    assert isinstance(arithmetic, InvariantArithmetic)
    assert "no C compiler (cc, gcc, clang) is installed" in caplog.text


def test_weights_that_only_kernels_know_are_refused_without_them(
    opened: Callable[[str], ModelFiles],
) -> None:
    with pytest.raises(NoKernels, match="int8 weights need native kernels: they are switched off"):
        open_arithmetic(opened("llama").config, Backend(CACHE, weights="int8", native=False))


def test_models_of_odd_shapes_are_left_to_torch(opened: Callable[[str], ModelFiles]) -> None:
    from msgspec.structs import replace

    config = opened("llama").config

    assert [f for f in FAMILIES if obstacle(opened(f).config)] == list(LEFT_TO_TORCH)
    arithmetic = open_arithmetic(opened("smollm2").config, Backend(CACHE))
    assert isinstance(arithmetic, InvariantArithmetic)
    assert obstacle(config) is None
    assert "head_dim 24" in str(obstacle(replace(config, head_dim=24)))
    assert "head_dim 512" in str(obstacle(replace(config, head_dim=512)))
    assert "64 query heads" in str(obstacle(replace(config, num_heads=64, num_kv_heads=1)))
