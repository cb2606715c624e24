"""A random Llama that is small enough for thousands of requests, in the files of a real one.

4 layers, hidden 256, vocabulary 4,096: its prefill takes as much longer than a decode step as that
of a model fifty times as large.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

VOCABULARY: Final = 4096
MAX_CONTEXT: Final = 4096


def write(folder: Path) -> Path:
    """The checkpoint, made where it is missing; the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer.json").exists():
        _weights(folder)
        _tokenizer(folder)
    return folder


def _weights(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_CONTEXT,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _tokenizer(folder: Path) -> None:
    """Nobody's words: prompts are token ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"<{n}>" for n in range(VOCABULARY - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({}))
