"""Tiny random models with a real vocabulary, in the files that real models come in.

They are made by transformers itself, so that its networks are the reference. Weights are large,
norms and biases random: else the two likeliest tokens are too close to tell bugs from rounding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.gguf_file import Floats

VOCAB_SIZE = 512
MAX_CONTEXT = 4096
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CORPUS = [
    "The quick brown fox jumps over the lazy dog while the engine counts its pages.",
    "A router turns one request into commands; engines obey the commands and answer with events.",
    "What is not yet here cannot be read, and what may still be written cannot be used again.",
    "In the beginning there was a prompt, and the prompt was split in the middle of a page.",
    "def step(state, event):\n    match state, event:\n        case Idle(), Submitted(): ...\n",
    "Der Wind weht über das Meer; le vent souffle sur la mer; 風が海を渡る。 🌊🌊",
    "0 1 2 3 4 5 6 7 8 9 10 20 30 40 50 60 70 80 90 100 1000",
]

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_CONTEXT,
    "bos_token_id": None,
    "eos_token_id": 2,
}

_ROPE_OF_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama2": ("Llama", {"num_key_value_heads": 4}),
    "llama-bias": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-linear": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    ),
    "llama3": ("Llama", {"rope_parameters": _ROPE_OF_LLAMA3}),
    "llama3.2": ("Llama", {"rope_parameters": _ROPE_OF_LLAMA3, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": 20}),
    "mistral-whole": ("Mistral", {"sliding_window": None, "head_dim": 32}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "smollm2": (
        "Llama",
        {
            "tie_word_embeddings": True,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "hidden_size": 72,
            "head_dim": 8,
        },
    ),
}
"""By name: the class in transformers and what is special about its configuration."""


def tiny_checkpoint(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """Write a model of `FAMILIES` into ``folder`` (made where missing), which is returned.

    The same family and seed always give the same weights. Its vocabulary is byte-level BPE, so any
    text is a prompt; its end token is ``<|im_end|>``, id 2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_model(family, seed)
    model.save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def tiny_model(family: str, seed: int) -> Any:
    """The network as transformers computes it."""
    import transformers  # takes seconds, and most tests need none of it

    name, special = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**(_SIZES | special))
    generator = torch.Generator().manual_seed(seed)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(_values(parameter, generator))
    return model


def _values(parameter: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(parameter.shape, generator=generator)
    return values * 0.16 if parameter.ndim == 2 else 1.0 + 0.3 * values


def tiny_tokenizer() -> Tokenizer:
    """Byte-level BPE of `VOCAB_SIZE` tokens or a few less."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def tiny_gguf(folder: Path, path: Path, kind: str = "F32") -> Path:
    """Write the checkpoint in ``folder`` as llama.cpp's converter would, weights of one type.

    Hidden sizes of tiny models are multiples of 32, so block types such as Q8_0 fit.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text())
    family = config["model_type"]
    writer = gguf.GGUFWriter(path, "llama" if family == "mistral" else family)
    _write_sizes(writer, config)
    _write_vocabulary(writer, folder)
    for name, values in load_file(folder / "model.safetensors").items():
        _write_tensor(writer, _gguf_name(name), _permuted(name, values, config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_sizes(writer: Any, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])


def _write_vocabulary(writer: Any, folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    special = {entry["content"] for entry in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


_PARTS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_name(name: str) -> str:
    for ours, theirs in _PARTS.items():
        name = name.replace(ours, theirs)
    return name


def _permuted(name: str, values: Floats, config: dict[str, Any]) -> Floats:
    """``LlamaModel.permute`` of llama.cpp's convert_hf_to_gguf.py."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    part = name.split(".")[-2]
    if config["model_type"] not in ("llama", "mistral") or part not in heads:
        return values
    num_heads = config[heads[part]]
    halves = values.reshape(num_heads, 2, values.shape[0] // num_heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _write_tensor(writer: Any, name: str, values: Floats, kind: str) -> None:
    import gguf

    number = gguf.GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
    writer.add_tensor(name, gguf.quantize(values, number), raw_dtype=number)
