"""How long those that decode wait for their next token while long prompts arrive or come back.

The default model, the whole engine, in this process. Four answers are being decoded when prompts of
1,024 tokens arrive one after the other; with the bound that a user sets on the time between tokens,
and without. Then the same prompts again, when their pages are in the second tier. Both take turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median
from time import perf_counter

import numpy as np
from msgspec import Struct

from bus.messages import Mailbox, Order, Release, Sampling, StartGenerate
from bus.public import Delta
from bus.tokens import Tokens
from engine.backend import Backend
from engine.config import EngineConfig
from engine.engine import Engine
from engine.model_files import ModelFiles, default_cache_dir, open_model
from engine.opening import open_arithmetic
from engine.outcomes import Output
from engine.page_store import PageStore, StoreShape
from engine.torch_runner import TorchRunner

from .progress import rounds
from .report import AtMost, Figure, Result

PAGE_SIZE = 16


class Plan(Struct, frozen=True):
    bound_s: float = 0.15
    num_decoding: int = 4
    num_prompts: int = 3
    prompt_tokens: int = 1024
    num_answered: int = 400
    """Tokens of each of those that decode, at most."""
    num_rounds: int = 2
    threads: int = 2


def run() -> Result:
    return measure(open_model(None), Plan(threads=os.cpu_count() or 1))


def measure(files: ModelFiles, plan: Plan) -> Result:
    waits: dict[str, list[float]] = {}
    firsts: dict[str, list[float]] = {}
    num_restored = 0
    for number in rounds(plan.num_rounds):
        for name, bound_s in (("free", None), ("bound", plan.bound_s)):
            scene = _Scene(files, plan, bound_s)
            prompts = list(_prompts(files, plan, seed=number))
            for what in ("computed", "restored"):
                found = scene.waits(prompts)
                waits.setdefault(f"{name}_{what}", []).extend(found)
                firsts.setdefault(f"{name}_{what}", []).extend(scene.firsts_s)
                scene.forget()
            num_restored += scene.num_restored
    figures: dict[str, Figure] = {"bound_ms": plan.bound_s * 1e3, "threads": plan.threads}
    for name, found in waits.items():
        for share in (50, 99, 100):
            label = "max" if share == 100 else f"p{share}"
            figures[f"{name}_{label}_ms"] = float(np.percentile(found, share)) * 1e3
        figures[f"{name}_first_token_ms"] = median(firsts[name]) * 1e3
    figures["restored_tokens"] = num_restored
    ratios = {
        f"{what}_p99_vs_bound": float(figures[f"bound_{what}_p99_ms"]) / (plan.bound_s * 1e3)
        for what in ("computed", "restored")
    }
    return Result("stalls", ratios, figures, {name: AtMost(1.0) for name in ratios})


def _prompts(files: ModelFiles, plan: Plan, seed: int) -> Iterator[list[int]]:
    random, most = np.random.default_rng(seed), min(20_000, files.config.vocab_size)
    for _ in range(plan.num_prompts):
        yield random.integers(most // 200, most, plan.prompt_tokens).tolist()


class _Scene:
    """One engine. Its pool has no room for what was computed before: that is in the second tier."""

    def __init__(self, files: ModelFiles, plan: Plan, bound_s: float | None) -> None:
        self._plan, self._count = plan, 0
        self._random = np.random.default_rng(99)
        self._prompt_pages = plan.prompt_tokens // PAGE_SIZE + 1
        answers = plan.num_decoding * ((8 + plan.num_answered) // PAGE_SIZE + 1)
        self._pages = self._prompt_pages + answers + 8
        shape = files.pool_shape(self._pages, PAGE_SIZE)
        arithmetic = open_arithmetic(
            files.config, Backend(default_cache_dir(), threads=plan.threads)
        )
        runner = TorchRunner(files, shape, arithmetic=arithmetic)
        slot_bytes = shape.num_layers * shape.page_bytes
        num_slots = (4 + plan.num_prompts) * self._pages
        store = PageStore.in_memory(StoreShape(num_slots, slot_bytes, shape.fingerprint))
        config = EngineConfig("bench", 1, inter_token_s=bound_s)
        make = files.tokenizer().detokenizer
        self._engine = Engine(config, runner, make, None, perf_counter, store=store)
        self._most = min(20_000, files.config.vocab_size)
        self.firsts_s: list[float] = []
        """From each prompt's arrival to its first token."""

    def waits(self, prompts: list[list[int]]) -> list[float]:
        """Seconds between tokens of those that decode, while prompts come one after the other."""
        decoding = [
            self._start([self._most // 2 + n] * 8, self._plan.num_answered)
            for n in range(self._plan.num_decoding)
        ]
        for _ in range(12):  # the pace is known, and the pool's memory was touched
            self._engine.step(perf_counter())
        waits, self.firsts_s = list[float](), []
        for prompt in prompts:
            began_s = last_s = perf_counter()
            flow, told = self._start(prompt, 1), set[str]()
            while flow not in told:
                told = self._step()
                now = perf_counter()
                if decoding[0] in told:
                    waits.append(now - last_s)
                    last_s = now
            self.firsts_s.append(perf_counter() - began_s)
        self._engine.check_integrity()
        return waits

    @property
    def num_restored(self) -> int:
        """Tokens that came back from the second tier."""
        return self._engine.statistics().restored_pages * PAGE_SIZE

    def forget(self) -> None:
        """End everybody, and push what is cached out to the second tier."""
        for number in range(1, self._count + 1):
            order = Order(str(number), 1, "r", Release("bench"))
            self._engine.handle(order, perf_counter())
        sizes = (self._pages // self._prompt_pages + 2, self._plan.prompt_tokens)
        for prompt in self._random.integers(3, self._most, sizes).tolist():
            self._start(prompt, 1)
        while self._engine.has_work:
            self._step()

    def _start(self, prompt: list[int], max_tokens: int) -> str:
        self._count += 1
        sampling = Sampling(max_tokens=max_tokens, ignore_eos=True)
        command = StartGenerate("bench", Tokens(prompt), 0, sampling, Mailbox("box"))
        self._engine.handle(Order(str(self._count), 1, "r", command), perf_counter())
        return str(self._count)

    def _step(self) -> set[str]:
        """Whose tokens came."""
        outcomes = self._engine.step(perf_counter())
        messages = (o.message for o in outcomes if isinstance(o, Output))
        return {message.flow for message in messages if isinstance(message, Delta)}
