"""llama.cpp through the C API that llama-cpp-python binds: parallel sequences in one context."""

from __future__ import annotations

import ctypes
import time

import llama_cpp  # pyright: ignore[reportMissingImports] - in an environment of its own
import numpy as np
from serving import Decoded, Setup, serve

BATCH = 512


class LlamaCpp:
    def __init__(self, setup: Setup) -> None:
        llama_cpp.llama_backend_init()
        self._log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        options = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(setup.gguf.encode(), options)
        self._context = llama_cpp.llama_init_from_model(self._model, _context_of(setup))
        self._memory = llama_cpp.llama_get_memory(self._context)
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._seen: dict[int, tuple[list[int], int]] = {}
        self.version = f"llama_cpp_python {llama_cpp.__version__}"

    def prefill(self, prompt: list[int]) -> float:
        self._seen.pop(0, None)
        begin = time.perf_counter()
        self._fill(0, prompt)
        return time.perf_counter() - begin

    def decode(self, prompts: list[list[int]], num_new: int) -> Decoded:
        tokens = [self._first(number, prompt) for number, prompt in enumerate(prompts)]
        made = [[token] for token in tokens]
        begin = time.perf_counter()
        for step in range(num_new - 1):
            rows = [(made[n][-1], len(p) + step, n, True) for n, p in enumerate(prompts)]
            self._run(rows)
            for number, answer in enumerate(made):
                answer.append(self._chosen(number))
        return Decoded(time.perf_counter() - begin, made)

    def _first(self, number: int, prompt: list[int]) -> int:
        """The first token; the prompt's KV is kept from an earlier call, all after it is not."""
        known, token = self._seen.get(number, ([], 0))
        if known == prompt:
            llama_cpp.llama_memory_seq_rm(self._memory, number, len(prompt), -1)
            return token
        token = self._fill(number, prompt)
        self._seen[number] = (prompt, token)
        return token

    def _fill(self, number: int, prompt: list[int]) -> int:
        llama_cpp.llama_memory_seq_rm(self._memory, number, -1, -1)
        last, part = len(prompt) - 1, prompt
        for begin in range(0, len(prompt), BATCH):
            part = prompt[begin : begin + BATCH]
            self._run([(t, begin + i, number, begin + i == last) for i, t in enumerate(part)])
        return self._chosen(len(part) - 1)

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = wanted
        if code := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode: {code}")

    def _chosen(self, index: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, index)
        return int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())


def _context_of(setup: Setup) -> llama_cpp.llama_context_params:
    """Its own choice of attention; keys and values as it is told, float16 where nothing is."""
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = setup.max_batch * setup.max_tokens
    options.n_batch = options.n_ubatch = BATCH
    options.n_seq_max = setup.max_batch
    options.n_threads = options.n_threads_batch = setup.threads
    if setup.extra == "float32 KV":
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
    return options


if __name__ == "__main__":
    serve(LlamaCpp)
