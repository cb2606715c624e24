"""Finding a model, naming it, and telling whether two engines may exchange pages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model_config import read_config
from engine.model_errors import BrokenModel, ModelError, ModelNotFound, UnsupportedModel
from engine.model_files import default_model, open_model, subject_name
from engine.rope_scaling import FactorRope, LinearRope, Llama3Rope

from .checkpoints import tiny_checkpoint, tiny_gguf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


def test_a_folder_and_a_gguf_file_of_one_model_describe_the_same_network(
    folder: Path, tmp_path: Path
) -> None:
    gguf = tiny_gguf(folder, tmp_path / "tiny-Q8_0.gguf", "Q8_0")

    one, two = open_model(str(folder)), open_model(str(gguf), cache_dir=tmp_path / "cache")

    assert (one.name, two.name) == ("tiny", "tiny")
    assert one.tokenizer().encode("the engine") == two.tokenizer().encode("the engine")
    assert one.config.num_layers == two.config.num_layers
    assert one.fingerprint != two.fingerprint


def test_opening_a_model_and_its_vocabulary_imports_no_torch(folder: Path) -> None:
    """The router opens models for their vocabulary only."""
    program = (
        "import sys; from engine.model_files import open_model; "
        f"open_model({str(folder)!r}).tokenizer(); sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_equal_models_have_equal_fingerprints_wherever_they_lie(
    folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    other = tiny_checkpoint(tmp_path / "other", seed=1)

    fingerprints = [open_model(str(path)).fingerprint for path in (folder, copy, other)]

    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_equal_gguf_files_have_equal_fingerprints_wherever_they_lie(
    folder: Path, tmp_path: Path
) -> None:
    files = [tiny_gguf(folder, tmp_path / name) for name in ("a.gguf", "b.gguf")]

    one, two = (open_model(str(path), cache_dir=tmp_path / path.stem) for path in files)

    assert one.fingerprint == two.fingerprint


def test_pools_fit_together_only_where_model_page_size_and_dtype_are_equal(folder: Path) -> None:
    files = open_model(str(folder))

    shape = files.pool_shape(100, 16)

    assert (shape.num_layers, shape.num_pages, shape.page_size) == (3, 100, 16)
    assert shape.page_bytes == 2 * 16 * 2 * 16 * 4
    assert files.pool_shape(7, 16).fingerprint == shape.fingerprint
    others = [files.pool_shape(100, 32), files.pool_shape(100, 16, "bfloat16")]
    assert len({shape.fingerprint, *(other.fingerprint for other in others)}) == 3


@pytest.mark.parametrize("sizes", [(0, 16, "float32"), (1, 0, "float32"), (1, 1, "int8")], ids=str)
def test_pools_that_make_no_sense_are_refused(sizes: tuple[int, int, str], folder: Path) -> None:
    with pytest.raises(ValueError, match=r"at least 1|choose one of float32"):
        open_model(str(folder)).pool_shape(*sizes)


@given(st.text(max_size=100))
def test_every_name_becomes_one_subject_token(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", subject_name(text))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models--Qwen--Qwen3-0.6B/snapshots/abc", "Qwen3-0-6B"),
        ("my model.v2", "my-model-v2"),
    ],
)
def test_a_folder_is_named_after_its_model(
    path: str, name: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / path)

    assert open_model(str(tmp_path / path)).name == name


@pytest.mark.parametrize(
    "stem", ["Tiny.Q4_1", "Tiny-Q4_K_M", "Tiny.F16", "Tiny-BF16", "Tiny.IQ2_XXS", "Tiny"]
)
def test_the_quantisation_is_not_part_of_a_models_name(
    stem: str, folder: Path, tmp_path: Path
) -> None:
    path = tiny_gguf(folder, tmp_path / f"{stem}.gguf")

    assert open_model(str(path), cache_dir=tmp_path).name == "Tiny"


def test_what_is_not_there_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()

    with pytest.raises(ModelNotFound, match=r"make setup.*--model"):
        default_model("no_such_package")
    with pytest.raises(ModelNotFound, match=r"nowhere.*\.gguf file or a Hugging Face folder"):
        open_model(str(tmp_path / "nowhere"))
    with pytest.raises(ModelNotFound, match=r"neither a folder nor a \.gguf file"):
        open_model(str(tmp_path / "model.bin"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_a_needed_file_is_broken(name: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).unlink()

    with pytest.raises(BrokenModel, match=r"config\.json|safetensors"):
        open_model(str(copy))


def test_a_missing_shard_is_named(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    index = {"weight_map": {"a": "model.safetensors", "b": "gone.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(BrokenModel, match=r"has no gone\.safetensors"):
        open_model(str(copy))


# --- config.json --------------------------------------------------------------------------------


def config_with(folder: Path, tmp_path: Path, **changes: object) -> Path:
    contents: dict[str, Any] = json.loads((folder / "config.json").read_text())
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**contents, **changes}))
    return path


LLAMA3 = {
    "factor": 8,
    "low_freq_factor": 1,
    "high_freq_factor": 4,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("changes", "theta", "scaling"),
    [
        ({"rope_parameters": None, "rope_theta": 5e5}, 5e5, None),
        ({"rope_parameters": None}, 1e4, None),
        (
            {
                "rope_parameters": None,
                "rope_theta": 7,
                "rope_scaling": {"type": "linear", "factor": 2},
            },
            7.0,
            LinearRope(2.0),
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 3, **LLAMA3}},
            3.0,
            Llama3Rope(8.0, 1.0, 4.0, 8192),
        ),
        (
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "long_factor": [1, 2, 3, 4, 5, 6, 7, 8],
                    "short_factor": [1, 2, 3, 4, 5, 6, 7, 8],
                    "attention_factor": 1,
                }
            },
            1e4,
            FactorRope((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)),
        ),
    ],
)
def test_rotary_embeddings_are_read_in_old_and_new_spelling(
    changes: dict[str, object], theta: float, scaling: object, folder: Path, tmp_path: Path
) -> None:
    config = read_config(config_with(folder, tmp_path, **changes))

    assert (config.rope_theta, config.rope_scaling) == (theta, scaling)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["GemmaForCausalLM"]},
            r"'GemmaForCausalLM'.*LlamaForCausalLM \(Llama 2,.*Mistral.*Qwen2\.5.*Qwen3",
        ),
        ({"hidden_act": "gelu"}, "'gelu'.*silu"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ({"quantization_config": {"quant_method": "gptq"}}, "'gptq'"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 4}},
            "'yarn'.*default, linear, llama3",
        ),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8}}, "'llama3'"),
        ({"rope_parameters": {"full_attention": {}}}, "each type of layer"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    changes: dict[str, object], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read_config(config_with(folder, tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 0},
        {"num_key_value_heads": 3},
        {"head_dim": 15},
        {"vocab_size": "many"},
        {"architectures": None},
    ],
)
def test_sizes_that_make_no_sense_are_refused(
    changes: dict[str, object], folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(BrokenModel, match=r"config\.json"):
        read_config(config_with(folder, tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"architectures": ["MistralForCausalLM"]}, (4096, 4096, 4096)),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, (None, None, None)),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 9}, (9, 9, 9)),
        ({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 9}, (None, None, None)),
        (
            {
                "architectures": ["Qwen2ForCausalLM"],
                "sliding_window": 9,
                "use_sliding_window": True,
                "max_window_layers": 2,
            },
            (None, None, 9),
        ),
        (
            {
                "architectures": ["Qwen3ForCausalLM"],
                "sliding_window": 9,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (9, None, 9),
        ),
    ],
)
def test_every_layer_has_the_window_that_transformers_gives_it(
    changes: dict[str, object], windows: tuple[int | None, ...], folder: Path, tmp_path: Path
) -> None:
    config = read_config(config_with(folder, tmp_path, **changes))

    assert config.windows == windows


def test_errors_are_one_family() -> None:
    assert all(issubclass(e, ModelError) for e in (ModelNotFound, BrokenModel, UnsupportedModel))
