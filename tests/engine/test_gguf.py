"""Reading GGUF files: every type of weight, every family, and files that are damaged."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from engine.gguf_checkpoint import convert, hugging_face_config
from engine.gguf_file import GgufFile
from engine.model_config import ModelConfig, read_config
from engine.model_errors import BrokenModel, ModelError, UnsupportedModel
from engine.model_files import ModelFiles
from engine.rope_scaling import FactorRope, LinearRope

from .checkpoints import tiny_checkpoint, tiny_gguf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    return tiny_gguf(folder, folder / "tiny.gguf")


def converted(source: Path, target: Path) -> Path:
    target.mkdir()
    convert(source, target)
    return target


@pytest.mark.parametrize("family", ["llama", "llama-bias", "mistral", "qwen2", "qwen3"])
def test_a_converted_file_holds_the_weights_it_was_made_of(family: str, tmp_path: Path) -> None:
    original = tiny_checkpoint(tmp_path / "original", family)
    if family == "llama-bias":
        without_feed_forward_biases(original)

    result = converted(tiny_gguf(original, tmp_path / "model.gguf"), tmp_path / "converted")

    wanted = load_file(original / "model.safetensors")
    given = load_file(result / "model.safetensors")
    assert given.keys() == wanted.keys()
    assert all(np.array_equal(given[name], wanted[name]) for name in wanted)
    assert read_config(result / "config.json") == close_to(read_config(original / "config.json"))


def without_feed_forward_biases(folder: Path) -> None:
    """GGUF files of Llama have none."""
    tensors = load_file(folder / "model.safetensors")
    left = {name: value for name, value in tensors.items() if "mlp" not in name or "weight" in name}
    save_file(left, folder / "model.safetensors")


def close_to(config: ModelConfig) -> ModelConfig:
    """GGUF keeps the epsilon in float32."""
    return msgspec.structs.replace(config, norm_epsilon=float(np.float32(config.norm_epsilon)))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_weights_of_other_types_are_dequantised(kind: str, folder: Path, tmp_path: Path) -> None:
    result = converted(tiny_gguf(folder, tmp_path / "model.gguf", kind), tmp_path / "converted")

    # Down projections are not permuted, so they can be quantised here as they are.
    name = "model.layers.1.mlp.down_proj.weight"
    number = gguf.GGMLQuantizationType[kind]
    original = load_file(folder / "model.safetensors")[name]
    wanted = gguf.dequantize(gguf.quantize(original, number), number)
    assert np.array_equal(load_file(result / "model.safetensors")[name], wanted)
    assert not np.array_equal(wanted, original)


def quantised_alone(path: Path, kind: str, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is read of a file whose one tensor consists of these blocks."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("w", blocks, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path).dequantised("w")


def half_bytes(value: float) -> NDArray[np.uint8]:
    return np.array([value], np.float16).view(np.uint8)


def test_blocks_of_type_q4_k_are_read_as_they_are_defined(tmp_path: Path) -> None:
    """256 weights of 4 bits; every 32 have a scale and a minimum of 6 bits. Packed here after the
    definition of ``block_q4_K`` in ggml-common.h: the gguf package cannot write this type."""
    random = np.random.default_rng(0)
    quants = random.integers(0, 16, (8, 32), dtype=np.uint8)
    scales, minima = random.integers(0, 64, (2, 8), dtype=np.uint8)
    packed = np.concatenate(
        [
            scales[:4] | scales[4:] >> 4 << 6,
            minima[:4] | minima[4:] >> 4 << 6,
            scales[4:] & 15 | (minima[4:] & 15) << 4,
        ]
    ).astype(np.uint8)
    pairs = quants.reshape(4, 2, 32)
    nibbles = (pairs[:, 0] | pairs[:, 1] << 4).flatten()
    block = np.concatenate([half_bytes(0.5), half_bytes(0.25), packed, nibbles]).astype(np.uint8)

    values = quantised_alone(tmp_path / "k.gguf", "Q4_K", block[None])

    wanted = 0.5 * scales[:, None] * quants.astype(np.float32) - 0.25 * minima[:, None]
    assert np.array_equal(values, wanted.reshape(1, 256))


def test_blocks_of_type_q6_k_are_read_as_they_are_defined(tmp_path: Path) -> None:
    """256 weights of 6 bits less 32, in halves of four rows; every 16 have a scale of 8 bits.
    Packed here after the definition of ``block_q6_K`` in ggml-common.h."""
    random = np.random.default_rng(1)
    quants = random.integers(0, 64, (2, 4, 32), dtype=np.uint8)
    scales = random.integers(-128, 128, (2, 4, 2), dtype=np.int8)
    low, high = quants & 15, quants >> 4
    lows = np.stack([low[:, 0] | low[:, 2] << 4, low[:, 1] | low[:, 3] << 4], axis=1)
    highs = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    parts = [lows.flatten(), highs.flatten(), scales.flatten().view(np.uint8), half_bytes(0.125)]

    values = quantised_alone(tmp_path / "k.gguf", "Q6_K", np.concatenate(parts)[None])

    centred = quants.astype(np.float32).reshape(2, 4, 2, 16) - 32
    wanted = 0.125 * scales[..., None] * centred
    assert np.array_equal(values, wanted.reshape(1, 256))


def test_the_same_file_always_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    one, two = converted(file, tmp_path / "one"), converted(file, tmp_path / "two")

    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_the_vocabulary_survives(folder: Path, file: Path, tmp_path: Path) -> None:
    result = converted(file, tmp_path / "converted")
    before = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    after = tokenizers.Tokenizer.from_file(str(result / "tokenizer.json"))

    for text in ["the engine counts 123 pages", "風 🌊<|im_end|>x", ""]:
        assert after.encode(text).ids == before.encode(text).ids
    settings = json.loads((result / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|im_end|>"
    assert "im_start" in settings["chat_template"]


# --- damaged and foreign files ------------------------------------------------------------------


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0.0, 0.9999))
def test_a_truncated_file_is_broken_wherever_it_ends(
    share: float, file: Path, tmp_path: Path
) -> None:
    data = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[: int(len(data) * share)])
    target = tmp_path / "converted"
    target.mkdir(exist_ok=True)

    with pytest.raises(BrokenModel):
        convert(cut, target)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 12_000), value=st.integers(0, 255))
def test_damage_never_raises_anything_but_a_model_error(
    place: int, value: int, file: Path, tmp_path: Path
) -> None:
    data = bytearray(file.read_bytes())
    data[place] = value
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)

    target = tmp_path / "converted"
    target.mkdir(exist_ok=True)

    with suppress(ModelError):
        convert(damaged, target)
        ModelFiles("damaged", target).tokenizer()


@pytest.mark.parametrize(
    "contents", [b"", b"GGU", b"not a model at all", b"GGUF\x01\0\0\0" + bytes(40)]
)
def test_other_files_are_refused(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(contents)

    with pytest.raises(ModelError):
        GgufFile(path)


class Edited(GgufFile):
    """A file with some of its metadata changed."""

    def __init__(self, path: Path, **changes: object) -> None:
        super().__init__(path)
        renamed = {name.replace("__", "."): value for name, value in changes.items()}
        self.metadata = {**self.metadata, **renamed}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general__architecture": "gemma3"}, "'gemma3'.*llama, qwen2, qwen3"),
        ({"llama__expert_count": 8}, "expert_count 8"),
        ({"llama__rope__dimension_count": 8}, "dimension_count 8.*supported: 16"),
        (
            {"general__architecture": "qwen3", "qwen3__attention__sliding_window": 512},
            "sliding_window 512.*supported: 0",
        ),
        ({"llama__rope__scaling__type": "yarn"}, "'yarn'.*none, linear"),
        ({"llama__attention__head_count": [4, 2]}, "one whole number for all layers"),
        ({"llama__block_count": 0}, "block_count 0"),
    ],
)
def test_networks_that_are_not_computed_are_refused_by_name(
    changes: dict[str, object], message: str, file: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        hugging_face_config(Edited(file, **changes))


def test_a_missing_size_is_named(file: Path) -> None:
    with pytest.raises(BrokenModel, match=r"llama\.feed_forward_length is missing"):
        hugging_face_config(Edited(file, llama__feed_forward_length=None))


def config_of(gguf_file: GgufFile, tmp_path: Path) -> object:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(hugging_face_config(gguf_file)))
    return read_config(path).rope_scaling


def test_linear_rope_scaling_is_read(file: Path, tmp_path: Path) -> None:
    changes = {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 2.5}

    assert config_of(Edited(file, **changes), tmp_path) == LinearRope(2.5)


def test_the_rope_factors_of_llama_3_are_read(file: Path, tmp_path: Path) -> None:
    factors = np.linspace(1, 8, 8, dtype=np.float32)

    class WithFactors(GgufFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.tensors = {**self.tensors, "rope_freqs.weight": self.tensors["output_norm.weight"]}

        def dequantised(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
            assert name == "rope_freqs.weight"
            return factors

    assert config_of(WithFactors(file), tmp_path) == FactorRope(tuple(factors.tolist()))


def test_a_llama_with_a_window_is_a_mistral(file: Path) -> None:
    """llama.cpp has one name for both."""
    plain, windowed = (
        hugging_face_config(Edited(file, llama__attention__sliding_window=window))
        for window in (0, 512)
    )

    assert (plain["architectures"], windowed["architectures"]) == (
        ["LlamaForCausalLM"],
        ["MistralForCausalLM"],
    )
    assert windowed["sliding_window"] == 512


def test_an_unknown_tensor_is_refused_by_name(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes().replace(b"blk.0.ffn_norm.weight", b"blk.0.ffn_what.weight")
    other = tmp_path / "other.gguf"
    other.write_bytes(data)

    with pytest.raises(UnsupportedModel, match=r"'blk\.0\.ffn_what\.weight'"):
        converted(other, tmp_path / "converted")


# --- progress -----------------------------------------------------------------------------------


def test_whoever_waits_for_a_conversion_hears_how_far_it_is(file: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    convert(file, tmp_path, lambda done, total: heard.append((done, total)))

    assert heard == [(number, len(heard)) for number in range(len(heard))]
    assert len(heard) == len(load_file(tmp_path / "model.safetensors"))
