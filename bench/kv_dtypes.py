"""What fp32, bf16 and fp16 cost the default model on this machine: memory, speed, token agreement.

Weights and KV are of one type. Speed is that of whole batches; the types take turns by round.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
from msgspec import Struct

from bus.messages import Sampling
from engine.model_files import ModelFiles, open_model
from engine.runner import Choice, Ids, Row, Sampled
from engine.torch_runner import TorchRunner

from .progress import rounds
from .report import AtMost, Figure, Result

DTYPES = ("float32", "bfloat16", "float16")
PAGE_SIZE = 16


class Plan(Struct, frozen=True):
    num_prompts: int = 4
    prompt_tokens: int = 128
    num_tokens: int = 16
    num_rounds: int = 2

    @property
    def num_pages(self) -> int:
        return self.num_prompts * -(-(self.prompt_tokens + self.num_tokens) // PAGE_SIZE)


class Measured(Struct, frozen=True):
    prefill_s: float
    step_s: float
    answers: list[list[int]]


def run() -> Result:
    return measure(open_model(None), Plan())


def measure(files: ModelFiles, plan: Plan) -> Result:
    found: dict[str, list[Measured]] = {dtype: [] for dtype in DTYPES}
    for _ in rounds(plan.num_rounds):
        for dtype in DTYPES:
            found[dtype].append(measured(_runner(files, dtype, plan), plan))
    exact = found["float32"][0].answers
    figures: dict[str, Figure] = {}
    for dtype, several in found.items():
        shape = files.pool_shape(1, PAGE_SIZE, dtype)
        figures[f"{dtype}_kv_bytes_per_token"] = shape.num_bytes // PAGE_SIZE
        prefill_s = median(one.prefill_s for one in several)
        figures[f"{dtype}_prefill_tokens_per_s"] = plan.prompt_tokens / prefill_s
        step_s = median(one.step_s for one in several)
        figures[f"{dtype}_decode_tokens_per_s"] = plan.num_prompts / step_s
        figures[f"{dtype}_same_tokens_as_float32"] = _same(exact, several[0].answers)
    ratios = {
        f"{dtype}_{what}_vs_float32": _number(figures, dtype, what)
        / _number(figures, "float32", what)
        for dtype in DTYPES[1:]
        for what in ("kv_bytes_per_token", "prefill_tokens_per_s", "decode_tokens_per_s")
    }
    halves = {name: AtMost(0.5) for name in ratios if "bytes" in name}
    return Result("kv_dtypes", ratios, figures, {**halves})


def _runner(files: ModelFiles, dtype: str, plan: Plan) -> TorchRunner:
    return TorchRunner(files, files.pool_shape(plan.num_pages, PAGE_SIZE, dtype), dtype=dtype)


def measured(runner: TorchRunner, plan: Plan) -> Measured:
    """Prompts one by one, then their answers in one batch; the pool has `Plan.num_pages`."""
    tables = np.arange(plan.num_pages, dtype=np.int32).reshape(plan.num_prompts, -1)
    random, most = np.random.default_rng(7), min(20_000, runner.card.vocab_size)
    histories: list[Ids] = [
        random.integers(most // 200, most, plan.prompt_tokens).astype(np.int32)
        for _ in range(plan.num_prompts)
    ]
    prefills_s, steps_s = list[float](), list[float]()
    answers: list[list[int]] = []
    for history, table in zip(histories, tables, strict=True):
        began_s = perf_counter()
        answers.append(_next(runner, [(history, 0, table)]))
        prefills_s.append(perf_counter() - began_s)
    for _ in range(plan.num_tokens - 1):
        histories = [
            np.append(history, answer[-1]).astype(np.int32)
            for history, answer in zip(histories, answers, strict=True)
        ]
        rows = [(h, len(h) - 1, table) for h, table in zip(histories, tables, strict=True)]
        began_s = perf_counter()
        for answer, token in zip(answers, _next(runner, rows), strict=True):
            answer.append(token)
        steps_s.append(perf_counter() - began_s)
    return Measured(median(prefills_s), median(steps_s), answers)


def _next(runner: TorchRunner, sequences: list[tuple[Ids, int, Ids]]) -> list[int]:
    """Greedily, the token after each history, of which the first tokens have KV already."""
    rows = [
        Row(history[begin:], begin, table, (Choice(Sampling(), history, len(history)),))
        for history, begin, table in sequences
    ]
    found = [one for chosen in runner.run(rows) for one in chosen]
    assert len(found) == len(rows)
    return [one.token for one in found if isinstance(one, Sampled)]


def _same(exact: list[list[int]], answers: list[list[int]]) -> float:
    """The share of tokens before the first that differs, answer by answer."""
    agreeing = 0
    for right, answer in zip(exact, answers, strict=True):
        differs = [a != b for a, b in zip(right, answer, strict=True)]
        agreeing += [*differs, True].index(True)
    return agreeing / sum(map(len, exact))


def _number(figures: dict[str, Figure], dtype: str, what: str) -> float:
    return float(figures[f"{dtype}_{what}"])
