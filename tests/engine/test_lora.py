"""Adapters: read as PEFT writes them, computed as merged weights are, kept apart in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from bus.messages import (
    Matched,
    Order,
    Prepared,
    PrepRecv,
    Query,
    RemoteSend,
    Sampling,
    StartGenerate,
)
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake import FakeRunner, fake_card
from engine.model_errors import BrokenModel, ModelError, ModelNotFound, UnsupportedModel
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Outcome
from engine.runner import Row
from engine.torch_runner import TorchRunner

from .checkpoints import tiny_checkpoint, tiny_model
from .rig import BOX, Rig, deltas, events, pair, reason, small, tokens
from .test_torch_runner import Pages, assert_close, random_ids, row

PROMPT = list(range(1, 23))
MODULES = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj")
SIZES = {
    "self_attn.q_proj": (64, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.down_proj": (64, 96),
}


def tiny_adapter(folder: Path, seed: int, rank: int = 4, **config: Any) -> Path:
    """For the tiny Llama, in the files and names of PEFT 0.18."""
    folder.mkdir(parents=True)
    written = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    save_file(halves(seed, rank), folder / "adapter_model.safetensors")
    return folder


def halves(seed: int, rank: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for layer in range(3):
        for module, (out, size) in SIZES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            made[f"{name}.lora_A.weight"] = torch.randn(rank, size, generator=generator) * 0.2
            made[f"{name}.lora_B.weight"] = torch.randn(out, rank, generator=generator) * 0.2
    return made


def merged(seed: int, rank: int, scale: float) -> Any:
    """The tiny model of transformers with the adapter in its weights."""
    model, adapter = tiny_model("llama", 0), halves(seed, rank)
    with torch.no_grad():
        for layer in range(3):
            for module in MODULES:
                name = f"model.layers.{layer}.{module}"
                down, up = (adapter[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
                model.get_submodule(name).weight += scale * up @ down
    return model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("lora")
    tiny_checkpoint(root / "model")
    tiny_adapter(root / "one", seed=1)
    tiny_adapter(root / "two", seed=2, rank=8, use_rslora=True)
    yield root
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def files(root: Path) -> ModelFiles:
    return open_model(str(root / "model"), adapters={"one": root / "one", "two": root / "two"})


def test_rows_of_one_batch_have_each_its_own_adapter_or_none(files: ModelFiles) -> None:
    runner, pages = TorchRunner(files, files.pool_shape(64, 16)), Pages()
    wanted = {
        "": tiny_model("llama", 0),
        "one": merged(1, 4, 8 / 4),
        "two": merged(2, 8, 8 / 8**0.5),
    }
    names = ["one", "", "two", "one", ""]
    prompts = [random_ids(length, seed=length) for length in (20, 5, 33, 1, 17)]
    rows = [
        replace(row(ids, 0, len(ids), pages.take(len(ids))), adapter=name)
        for ids, name in zip(prompts, names, strict=True)
    ]

    given = runner.logits(rows)

    for logits, ids, name in zip(given, prompts, names, strict=True):
        with torch.inference_mode():
            reference = wanted[name](torch.from_numpy(ids).long()[None]).logits[0, -1]
        assert_close(logits, reference)
    assert runner.card.adapters == ("one", "two")


def test_an_alpha_may_be_one_modules_own(root: Path) -> None:
    folder = tiny_adapter(root / "pattern", seed=3, alpha_pattern={"q_proj": 1.0})
    files = open_model(str(root / "model"), adapters={"p": folder})
    runner, ids = TorchRunner(files, files.pool_shape(64, 16)), random_ids(9)

    given = runner.logits([replace(row(ids, 0, 9, Pages().take(9)), adapter="p")])

    model, plain = merged(3, 4, 8 / 4), tiny_model("llama", 0)
    adapter = halves(3, 4)
    with torch.no_grad():
        for layer in range(3):
            name = f"model.layers.{layer}.self_attn.q_proj"
            down, up = (adapter[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
            weight = plain.get_submodule(name).weight + 1.0 / 4 * up @ down
            model.get_submodule(name).weight.copy_(weight)
        assert_close(given[0], model(torch.from_numpy(ids).long()[None]).logits[0, -1])


def test_engines_exchange_pages_only_with_the_same_adapters(root: Path, files: ModelFiles) -> None:
    names = {"plain": {}, "less": {"one": root / "one"}, "swapped": {"one": root / "two"}}

    others = [open_model(str(root / "model"), adapters=adapters) for adapters in names.values()]

    prints = {opened.pool_shape(8, 16).fingerprint for opened in (files, *others)}
    assert len(prints) == 4


# --- what is refused ------------------------------------------------------------------------------


def opened(root: Path, folder: Path) -> TorchRunner:
    files = open_model(str(root / "model"), adapters={"x": folder})
    return TorchRunner(files, files.pool_shape(4, 16))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type of adapter x 'IA3'"),
        ({"bias": "all"}, "bias of adapter x 'all'"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_other_kinds_of_adapters_are_refused_by_name(
    config: dict[str, Any], words: str, root: Path, tmp_path: Path
) -> None:
    folder = tiny_adapter(tmp_path / "x", seed=1, **config)

    with pytest.raises(UnsupportedModel, match=words):
        opened(root, folder)


Change = Callable[[dict[str, torch.Tensor]], object]
Q0, Q7 = (f"base_model.model.model.layers.{n}.self_attn.q_proj" for n in (0, 7))
A0, B0, A7, B7 = (f"{name}.lora_{half}.weight" for name in (Q0, Q7) for half in "AB")
HEAD = "base_model.model.lm_head.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.pop(B0), BrokenModel, "needs lora_A and lora_B"),
        (lambda t: t.update({A0: torch.ones(4, 65)}), BrokenModel, r"\(64, 65\)"),
        (
            lambda t: t.update({A7: t[A0].clone(), B7: t[B0].clone()}),
            BrokenModel,
            r"no layer model\.layers\.7",
        ),
        (lambda t: t.update({HEAD: torch.ones(4, 64)}), UnsupportedModel, "lm_head.*q_proj"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    change: Change, error: type[ModelError], words: str, root: Path, tmp_path: Path
) -> None:
    folder, weights = tiny_adapter(tmp_path / "x", seed=1), halves(1, 4)
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")

    with pytest.raises(error, match=words):
        opened(root, folder)


def test_a_folder_without_an_adapter_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"adapter 'x'.*adapter_config\.json is missing"):
        opened(root, tmp_path)


# --- in the engine --------------------------------------------------------------------------------


def order(flow: str, adapter: str, command: Any = None) -> Order:
    command = command or StartGenerate("a", Tokens(PROMPT), 0, Sampling(max_tokens=6), BOX)
    return Order(flow, 1, "r", command, adapter=adapter)


def rig_with(*adapters: str) -> Rig:
    return Rig(card=fake_card(adapters=adapters))


def test_the_cache_keeps_what_adapters_computed_apart() -> None:
    rig = rig_with("one", "two")
    flows = {"f": "one", "g": "", "h": "two", "i": "one"}
    outcomes: list[Outcome] = []
    for flow, adapter in flows.items():
        outcomes += rig.engine.handle(order(flow, adapter), 0.0)
        outcomes += rig.run()

    for flow, adapter in flows.items():
        wanted = rig.runner.continuation(PROMPT, 6, adapter=adapter)
        assert tokens(outcomes, flow) == wanted
    assert len({tuple(tokens(outcomes, flow)) for flow in "fgh"}) == 3
    assert rig.statistics.matched_tokens == 20


def test_a_query_asks_what_was_computed_with_its_adapter() -> None:
    rig = rig_with("one", "two")
    rig.engine.handle(order("f", "one"), 0.0)
    rig.run()

    matched = [
        event.matched
        for adapter in ("one", "two", "")
        for event in events(rig.engine.handle(order("q", adapter, Query("a", Tokens(PROMPT))), 0.0))
        if isinstance(event, Matched)
    ]

    assert matched == [20, 0, 0]


def test_an_unknown_adapter_is_refused_with_those_that_are_known() -> None:
    rig = rig_with("one", "two")

    [told] = rig.engine.handle(order("f", "three"), 0.0)

    assert reason([told]) == "bad_request"
    assert "'three'" in told.event.message  # type: ignore[union-attr]
    assert "one, two" in told.event.message  # type: ignore[union-attr]
    rig.assert_empty()


def test_a_context_that_is_sent_was_computed_with_the_flows_adapter() -> None:
    network, a, b = pair()
    for rig in (a, b):
        card = fake_card(adapters=("one",))
        rig.runner = FakeRunner(card, rig.runner.memory)
        wire = network.wire(rig.name, rig.runner.memory, card.shape)
        rig.engine = Engine(small(rig.name), rig.runner, _Words, wire, lambda: 0.0)
    [prepared] = events(b.engine.handle(order("f", "one", PrepRecv("b", Tokens(PROMPT), -1)), 0.0))
    assert isinstance(prepared, Prepared)
    send = RemoteSend("a", Tokens(PROMPT), prepared.grant, 0, -1)
    a.engine.handle(order("f", "one", send), 0.0)
    a.run()
    network.settle()
    b.hear()

    command = StartGenerate("b", Tokens(PROMPT), 0, Sampling(max_tokens=6), BOX)
    b.engine.handle(order("f", "one", command), 0.0)

    assert tokens(b.run(), "f") == b.runner.continuation(PROMPT, 6, adapter="one")
    assert b.statistics.prefill_tokens == 1


class _Words:
    def push(self, token: int) -> str:
        return f"{token} "

    def flush(self) -> str:
        return ""


def test_answers_of_one_prompt_with_different_adapters_differ_on_a_real_network(
    files: ModelFiles,
) -> None:
    runner = TorchRunner(files, files.pool_shape(64, 8))
    engine = Engine(small(), runner, files.tokenizer().detokenizer, None, lambda: 0.0)
    for name in ("one", "two", ""):
        engine.handle(order(f"f{name}", name), 0.0)
    outcomes: list[Outcome] = []
    while engine.has_work:
        outcomes += engine.step(0.0)
        engine.check_integrity()

    answers = {name: tokens(outcomes, f"f{name}") for name in ("one", "two", "")}

    with torch.inference_mode():
        for name, model in (("one", merged(1, 4, 2.0)), ("", tiny_model("llama", 0))):
            ids = torch.tensor([PROMPT])
            wanted = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6,
                                    do_sample=False, pad_token_id=0)  # fmt: skip
            assert answers[name] == wanted[0, len(PROMPT) :].tolist()
    assert len({tuple(answer) for answer in answers.values()}) == 3
    assert Row(random_ids(1), 0, random_ids(1)).adapter == ""
    assert deltas(outcomes)
