"""Turn a GGUF file into a Hugging Face folder with the same weights in float32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from .gguf_file import Floats, GgufFile
from .gguf_vocabulary import end_token_ids, tokenizer_config, tokenizer_json
from .model_errors import BrokenModel, UnsupportedModel
from .progress import UNSEEN, Progress
from .safetensors_stream import write_float32
from .supported import family_of, family_of_gguf

TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

ROPE_FACTORS = "rope_freqs.weight"
"""Not a weight: what Llama 3.1's frequencies are divided by."""


def convert(source: Path, folder: Path, progress: Progress = UNSEEN) -> None:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json.

    Reads and writes one tensor at a time. The same file always gives the same bytes. ``progress``
    is told before each how many are done, and of how many.

    Raises:
        BrokenModel, UnsupportedModel: the file is not a model that can be run here.
        OSError: the folder cannot be written.
    """
    gguf = GgufFile(source)
    config = hugging_face_config(gguf)
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer.json", tokenizer_json(source, gguf.metadata))
    _write_json(folder / "tokenizer_config.json", tokenizer_config(source, gguf.metadata))
    _write_weights(folder / "model.safetensors", gguf, config, progress)


def hugging_face_config(gguf: GgufFile) -> dict[str, Any]:
    """The config.json that describes this file's network."""
    architecture = gguf.metadata.get("general.architecture")
    fields = _Fields(gguf, str(architecture))
    window = fields.get("attention.sliding_window", 0) or None
    family = family_of_gguf(architecture, window)
    hidden_size = fields.size("embedding_length")
    num_heads = fields.size("attention.head_count")
    head_dim = fields.get("attention.key_length", hidden_size // num_heads)
    _refuse_what_is_not_computed(fields, head_dim)
    return {
        "architectures": [family.architecture],
        "model_type": family.name,
        "dtype": "float32",
        "vocab_size": gguf.shape("token_embd.weight")[0],
        "hidden_size": hidden_size,
        "intermediate_size": fields.size("feed_forward_length"),
        "num_hidden_layers": fields.size("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": fields.get("attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "attention_bias": "blk.0.attn_q.bias" in gguf.tensors,
        "rms_norm_eps": fields.need("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": fields.size("context_length"),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        **({"sliding_window": window} if window else {}),
        "rope_parameters": _rope_parameters(fields),
        "eos_token_id": end_token_ids(gguf.path, gguf.metadata),
        "bos_token_id": gguf.metadata.get("tokenizer.ggml.bos_token_id"),
    }


def undo_permutation(values: Floats, num_heads: int) -> Floats:
    """Give the rows of a Llama Q or K weight (or bias) back their Hugging Face order.

    llama.cpp's ``LlamaModel.permute`` puts the two numbers that are rotated together side by side;
    Hugging Face keeps all first ones of a head before all second ones.
    """
    half = values.shape[0] // num_heads // 2
    pairs = values.reshape(num_heads, half, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


class _Fields:
    """The metadata under one architecture's prefix."""

    def __init__(self, gguf: GgufFile, architecture: str) -> None:
        self.gguf, self.architecture = gguf, architecture

    def get(self, name: str, default: Any) -> Any:
        return self.gguf.metadata.get(f"{self.architecture}.{name}", default)

    def need(self, name: str) -> Any:
        value = self.get(name, None)
        if value is None:
            raise BrokenModel(self.gguf.path, f"metadata {self.architecture}.{name} is missing")
        return value

    def size(self, name: str) -> int:
        value = self.need(name)
        if not isinstance(value, int) or value < 1:
            supported = ["one whole number for all layers"]
            raise UnsupportedModel(f"{self.architecture}.{name}", value, supported)
        return value


def _refuse_what_is_not_computed(fields: _Fields, head_dim: int) -> None:
    wanted = {
        "expert_count": 0,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
    }
    for name, value in wanted.items():
        given = fields.get(name, value)
        if given != value:
            raise UnsupportedModel(f"{fields.architecture}.{name}", given, [str(value)])


def _rope_parameters(fields: _Fields) -> dict[str, Any]:
    theta = {"rope_theta": fields.get("rope.freq_base", 10_000.0)}
    if ROPE_FACTORS in fields.gguf.tensors:
        factors = fields.gguf.dequantised(ROPE_FACTORS).tolist()
        both = {"short_factor": factors, "long_factor": factors, "attention_factor": 1.0}
        return {**theta, "rope_type": "longrope", **both}
    match fields.get("rope.scaling.type", "none"):
        case "none":
            return {**theta, "rope_type": "default"}
        case "linear":
            factor = fields.need("rope.scaling.factor")
            return {**theta, "rope_type": "linear", "factor": factor}
        case other:
            raise UnsupportedModel("GGUF rope scaling", other, ["none", "linear", ROPE_FACTORS])


def _write_weights(
    path: Path, gguf: GgufFile, config: Mapping[str, Any], progress: Progress
) -> None:
    sources = {hugging_face_name(name): name for name in gguf.tensors if name != ROPE_FACTORS}
    permuted: dict[str, int] = {}
    if family_of(tuple(config["architectures"])).gguf_rotates_neighbours:
        permuted = {
            "attn_q": config["num_attention_heads"],
            "attn_k": config["num_key_value_heads"],
        }

    done = count()

    def read(name: str) -> Floats:
        progress(next(done), len(sources))
        source = sources[name]
        values = gguf.dequantised(source)
        num_heads = permuted.get(source.split(".")[-2])
        if num_heads is None:
            return values
        if len(values) % (2 * num_heads):
            raise BrokenModel(gguf.path, f"{source}: {len(values)} rows for {num_heads} heads")
        return undo_permutation(values, num_heads)

    write_float32(path, {new: gguf.tensors[old].shape for new, old in sources.items()}, read)


def hugging_face_name(name: str) -> str:
    """The name in a Hugging Face checkpoint of a GGUF tensor."""
    match name.split("."):
        case _ if name in TOP_NAMES:
            return TOP_NAMES[name]
        case ["blk", layer, part, ("weight" | "bias") as kind] if part in LAYER_NAMES:
            return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"
    raise UnsupportedModel("GGUF tensor", name, [*TOP_NAMES, *LAYER_NAMES, ROPE_FACTORS])


def _write_json(path: Path, contents: dict[str, Any]) -> None:
    path.write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")
