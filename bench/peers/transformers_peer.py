"""transformers, as `generate` computes: a cache of keys and values, one forward per token."""

from __future__ import annotations

import copy
import time

import torch
import transformers
from serving import Decoded, Setup, serve


class Transformers:
    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        load = transformers.AutoModelForCausalLM.from_pretrained
        self._model = load(setup.folder, dtype=torch.float32, attn_implementation="sdpa").eval()
        self._caches: dict[str, tuple[object, torch.Tensor]] = {}
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"

    def prefill(self, prompt: list[int]) -> float:
        begin = time.perf_counter()
        self._first([prompt])
        return time.perf_counter() - begin

    @torch.inference_mode()
    def decode(self, prompts: list[list[int]], num_new: int) -> Decoded:
        known = str(prompts)
        if known not in self._caches:
            self._caches[known] = self._first(prompts)
        cache, tokens = copy.deepcopy(self._caches[known])
        made = [tokens]
        begin = time.perf_counter()
        for _ in range(num_new - 1):
            out = self._model(tokens[:, None], past_key_values=cache, use_cache=True)
            tokens = out.logits[:, -1].argmax(-1)
            made.append(tokens)
        seconds = time.perf_counter() - begin
        return Decoded(seconds, torch.stack(made, 1).tolist())

    @torch.inference_mode()
    def _first(self, prompts: list[list[int]]) -> tuple[object, torch.Tensor]:
        out = self._model(torch.tensor(prompts), use_cache=True, logits_to_keep=1)
        return out.past_key_values, out.logits[:, -1].argmax(-1)


if __name__ == "__main__":
    serve(Transformers)
