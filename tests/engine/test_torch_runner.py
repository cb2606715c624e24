"""The network and the paged attention against transformers, row by row and batched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import field
from torch import Tensor

from bus.messages import Sampling
from bus.transfers import PoolShape
from engine.checkpoint import Checkpoint
from engine.model_errors import BrokenModel, UnsupportedModel
from engine.model_files import ModelFiles, open_model
from engine.runner import Choice, Ids, Row, Sampled
from engine.torch_arithmetic import TorchArithmetic
from engine.torch_runner import TorchRunner

from .checkpoints import FAMILIES, VOCAB_SIZE, tiny_checkpoint, tiny_model

PAGE_SIZE = 16
NUM_PAGES = 64
LENGTHS = [1, 2, 15, 16, 17, 33, 100]
SEED = 11


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelFiles]:
    root = tmp_path_factory.mktemp("models")

    def opened(family: str) -> ModelFiles:
        folder = root / family
        if not folder.exists():
            tiny_checkpoint(folder, family, SEED)
        return open_model(str(folder))

    return opened


def runner_of(files: ModelFiles) -> TorchRunner:
    """With a pool of garbage: whoever reads an unwritten slot gets NaN."""
    runner = TorchRunner(files, files.pool_shape(NUM_PAGES, PAGE_SIZE))
    runner.pool.fill_(float("nan"))
    return runner


def random_ids(length: int, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(3, VOCAB_SIZE, length).astype(np.int32)


class Pages:
    """Hands out pages in random order."""

    def __init__(self, seed: int = 0) -> None:
        self._free = np.random.default_rng(seed).permutation(NUM_PAGES).astype(np.int32)

    def take(self, num_tokens: int) -> Ids:
        count = -(-num_tokens // PAGE_SIZE)
        taken, self._free = self._free[:count], self._free[count:]
        assert len(taken) == count
        return taken


def row(ids: Ids, begin: int, end: int, pages: Ids) -> Row:
    """The tokens ``ids[begin:end]``, asking for the most likely one after them."""
    return Row(ids[begin:end], begin, pages, (Choice(Sampling(), ids[:end], end),))


def reference_logits(family: str, ids: Ids) -> torch.Tensor:
    """Of every position, ``[tokens, vocab_size]``."""
    with torch.inference_mode():
        logits: torch.Tensor = tiny_model(family, SEED)(torch.from_numpy(ids).long()[None]).logits
    return logits[0]


def assert_close(given: torch.Tensor, wanted: torch.Tensor) -> None:
    assert given.shape == wanted.shape
    assert (given - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk", [1, 7, 16, 48, 100])
def test_logits_equal_transformers_however_the_prompt_is_cut(
    family: str, chunk: int, checkpoint: Callable[[str], ModelFiles]
) -> None:
    ids = random_ids(100)
    runner, pages = runner_of(checkpoint(family)), Pages().take(100)
    bounds = [(begin, min(begin + chunk, 100)) for begin in range(0, 100, chunk)]

    given = torch.cat([runner.logits([row(ids, *bound, pages)]) for bound in bounds])

    ends = torch.tensor([end - 1 for _, end in bounds])
    assert_close(given, reference_logits(family, ids)[ends])


@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen2-window", "qwen3"])
def test_rows_of_all_kinds_in_one_batch_do_not_disturb_each_other(
    family: str, checkpoint: Callable[[str], ModelFiles]
) -> None:
    runner, pages = runner_of(checkpoint(family)), Pages()
    prompts = [(random_ids(length, seed=length), pages.take(length)) for length in LENGTHS]
    halves = [(ids, len(ids) // 2, blocks) for ids, blocks in prompts]
    runner.run([Row(ids[:half], 0, blocks) for ids, half, blocks in halves if half])
    runner.run([Row(ids[half:-1], half, blocks) for ids, half, blocks in halves if half > 1])

    # One token here, a chunk there: every row ends its prompt now.
    rest = [len(ids) - 1 if half > 1 else half for ids, half, _ in halves]
    rows = [
        row(ids, at, len(ids), blocks) for (ids, _, blocks), at in zip(halves, rest, strict=True)
    ]
    given = runner.logits([*rows, row(random_ids(40, seed=9), 0, 40, pages.take(40))])

    wanted = [reference_logits(family, ids)[-1] for ids, _ in prompts]
    wanted.append(reference_logits(family, random_ids(40, seed=9))[-1])
    assert_close(given, torch.stack(wanted))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_equal_those_of_transformers(
    family: str, checkpoint: Callable[[str], ModelFiles]
) -> None:
    num_new = 20
    runner, pages = runner_of(checkpoint(family)), Pages()
    prompts = [random_ids(length, seed=length) for length in LENGTHS]
    blocks = [pages.take(length + num_new) for length in LENGTHS]

    begins = [0] * len(prompts)
    texts = list(prompts)
    for _ in range(num_new):
        rows = [row(t, b, len(t), p) for t, b, p in zip(texts, begins, blocks, strict=True)]
        begins = [len(text) for text in texts]
        chosen = [one.token for [one] in runner.run(rows) if isinstance(one, Sampled)]
        texts = [np.append(t, np.int32(c)) for t, c in zip(texts, chosen, strict=True)]

    assert [text.tolist() for text in texts] == [
        generate(tiny_model(family, SEED), prompt, num_new) for prompt in prompts
    ]


def generate(model: Any, prompt: Ids, num_new: int) -> list[int]:
    ids = torch.from_numpy(prompt).long()[None]
    generated = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=num_new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens: list[int] = generated[0].tolist()
    return tokens


def test_only_rows_that_ask_get_a_token_and_results_keep_the_order(
    checkpoint: Callable[[str], ModelFiles],
) -> None:
    runner, pages = runner_of(checkpoint("llama")), Pages()
    one, two = random_ids(20, seed=1), random_ids(5, seed=2)
    asking = row(two, 0, 5, pages.take(5))

    results = runner.run([Row(one, 0, pages.take(20)), asking])

    alone = runner_of(checkpoint("llama")).run([asking])
    assert results == [(), alone[0]]
    assert runner.run([Row(one, 0, Pages(3).take(20))]) == [()]
    assert runner.run([]) == []


class CountingTorch(TorchArithmetic, frozen=True):
    """Notes how many tokens each layer's feed-forward network sees."""

    counts: list[int] = field(default_factory=list)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        self.counts.append(len(gate))
        return super().gated(gate, up)


def test_the_last_layer_is_gone_through_by_those_tokens_alone_that_are_asked_about(
    checkpoint: Callable[[str], ModelFiles],
) -> None:
    files, pages = checkpoint("llama"), Pages()
    counting = CountingTorch(torch.device("cpu"), torch.float32)
    runner = TorchRunner(files, files.pool_shape(NUM_PAGES, PAGE_SIZE), arithmetic=counting)
    silent = Row(random_ids(40), 0, pages.take(40))
    asking = [row(random_ids(n, seed=n), 0, n, pages.take(n)) for n in (30, 1)]

    runner.run([silent, *asking])
    runner.run([silent])

    assert counting.counts == [71, 71, 2, 40, 40]


def test_every_layer_is_told_when_its_pages_are_written_and_not_before(
    checkpoint: Callable[[str], ModelFiles],
) -> None:
    runner = runner_of(checkpoint("llama"))
    pages = Pages().take(32)
    written: list[tuple[int, list[bool]]] = []

    def on_layer(layer: int) -> None:
        filled = [bool(cache[pages].isfinite().all()) for cache in runner.pool]
        written.append((layer, filled))

    runner.run([Row(random_ids(32), 0, pages)], on_layer)

    assert written == [
        (0, [True, False, False]),
        (1, [True, True, False]),
        (2, [True, True, True]),
    ]


def move(
    source: bytearray, target: bytearray, shape: PoolShape, pairs: list[tuple[int, int]]
) -> None:
    """Copy pages as a transport does: by `PoolShape` alone."""
    for layer in range(shape.num_layers):
        for there, here in pairs:
            begin = (layer * shape.num_pages + there) * shape.page_bytes
            end = (layer * shape.num_pages + here) * shape.page_bytes
            target[end : end + shape.page_bytes] = source[begin : begin + shape.page_bytes]


def test_pages_copied_byte_by_byte_continue_on_another_runner(
    checkpoint: Callable[[str], ModelFiles],
) -> None:
    files = checkpoint("qwen2")
    shape = files.pool_shape(NUM_PAGES, PAGE_SIZE)
    memories = [bytearray(b"\xff" * shape.num_bytes) for _ in range(2)]
    sender, receiver = (TorchRunner(files, shape, buffer=memory) for memory in memories)
    ids, there, here = random_ids(41), Pages(1).take(41), Pages(2).take(41)
    whole = sender.logits([row(ids, 0, 41, there)])
    sender.run([Row(ids[:40], 0, there)])

    pairs = list(zip(there.tolist(), here.tolist(), strict=True))
    move(memories[0], memories[1], shape, pairs)
    continued = receiver.logits([row(ids, 40, 41, here)])

    assert_close(continued, whole)
    assert receiver.card.shape == shape


def test_a_reused_page_forgets_its_former_owner(checkpoint: Callable[[str], ModelFiles]) -> None:
    runner, pages = runner_of(checkpoint("llama")), Pages().take(30)
    runner.run([Row(random_ids(30, seed=1), 0, pages)])
    ids = random_ids(18, seed=2)

    given = runner.logits([row(ids, 0, 18, pages)])

    assert_close(given[0], reference_logits("llama", ids)[-1])


def test_a_wrong_shape_or_buffer_is_refused(checkpoint: Callable[[str], ModelFiles]) -> None:
    files = checkpoint("llama")
    shape = files.pool_shape(4, PAGE_SIZE)

    with pytest.raises(ValueError, match="bfloat16"):
        TorchRunner(files, shape, dtype="bfloat16")
    with pytest.raises(ValueError, match=f"needs {shape.num_bytes} writable bytes"):
        TorchRunner(files, shape, buffer=bytearray(7))
    with pytest.raises(ValueError, match="read-only"):
        TorchRunner(files, shape, buffer=bytes(shape.num_bytes))
    with pytest.raises(ValueError, match="the device is meta"):
        TorchRunner(files, shape, device="meta", buffer=bytearray(shape.num_bytes))


def test_half_precision_needs_half_the_memory_and_says_nearly_the_same(
    checkpoint: Callable[[str], ModelFiles],
) -> None:
    files, ids = checkpoint("qwen3"), random_ids(50)
    shape = files.pool_shape(NUM_PAGES, PAGE_SIZE, "bfloat16")
    runner = TorchRunner(files, shape, dtype="bfloat16")
    runner.pool.fill_(float("nan"))

    given = runner.logits([row(ids, 0, 50, Pages().take(50))])[0]

    wanted = reference_logits("qwen3", ids)[-1]
    assert shape.num_bytes * 2 == files.pool_shape(NUM_PAGES, PAGE_SIZE).num_bytes
    assert torch.cosine_similarity(given, wanted, dim=0) > 0.99


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> ModelFiles:
    from safetensors.torch import load_file, save_file

    tiny_checkpoint(folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return open_model(str(folder))


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    files = rewritten(tmp_path, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))

    with pytest.raises(BrokenModel, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        runner_of(files)


def test_a_weight_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    files = rewritten(
        tmp_path, lambda tensors: tensors.update({"model.norm.weight": torch.ones(3)})
    )

    with pytest.raises(BrokenModel, match=r"model\.norm\.weight is \(3,\), config says \(64,\)"):
        runner_of(files)


def test_a_weight_that_nobody_computes_with_is_not_ignored(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.sinks": torch.ones(4)}
    files = rewritten(tmp_path, lambda tensors: tensors.update(extra))

    with pytest.raises(UnsupportedModel, match=r"sinks.*model\.layers\.N\.self_attn\.q_proj"):
        runner_of(files)


def test_a_checkpoint_in_several_files_is_one_model(tmp_path: Path) -> None:
    model = tiny_model("llama", SEED)
    tiny_checkpoint(tmp_path, "llama", SEED)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    files, ids = open_model(str(tmp_path)), random_ids(10)

    given = runner_of(files).logits([row(ids, 0, 10, Pages().take(10))])

    assert len(files.weights) > 1
    assert_close(given[0], reference_logits("llama", ids)[-1])


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    files = open_model(str(tiny_checkpoint(tmp_path)))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(BrokenModel, match=r"model\.safetensors"):
        runner_of(files)


def test_weights_stay_in_the_file_that_all_processes_share(
    checkpoint: Callable[[str], ModelFiles],
) -> None:
    files = checkpoint("qwen3")
    weights = Checkpoint(files.weights, torch.float32, torch.device("cpu"))

    one = weights.take("model.norm.weight", (64,))

    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "qwen3" in line]
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped]
    assert any(begin <= one.data_ptr() < end for begin, end in ranges)


def test_how_many_weights_are_loaded_is_told_to_the_last(tmp_path: Path) -> None:
    files = open_model(str(tiny_checkpoint(tmp_path / "tiny")))
    told: list[tuple[int, int]] = []

    TorchRunner(
        files,
        files.pool_shape(NUM_PAGES, PAGE_SIZE),
        progress=lambda done, of: told.append((done, of)),
    )

    total = told[-1][1]
    assert [done for done, _ in told] == list(range(total + 1))
    assert {of for _, of in told} == {total}
