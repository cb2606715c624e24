"""Our own engine, all of it: orders, scheduler, pages, prefix cache, sampler, detokeniser."""

from __future__ import annotations

import time

from msgspec.structs import replace
from torch import Tensor

from bus.messages import Mailbox, Order, Sampling, StartGenerate
from bus.public import Delta
from bus.tokens import Tokens
from engine.backend import Backend, Weights
from engine.config import EngineConfig
from engine.engine import Engine
from engine.model_files import default_cache_dir, open_model
from engine.opening import open_arithmetic
from engine.outcomes import Outcome, Output
from engine.runner import OnLayer, Row
from engine.torch_runner import TorchRunner

from ..peers.serving import Decoded, Setup, serve

PAGE_SIZE = 16
SAMPLED = Sampling(temperature=0.8, top_p=0.95, top_k=50, seed=1, ignore_eos=True)
GREEDY = Sampling(ignore_eos=True)


class TimedRunner(TorchRunner):
    """Adds up what the network alone takes: the rest of a step is ours to answer for."""

    network_s = 0.0

    def _forward(self, rows: list[Row], on_layer: OnLayer | None) -> Tensor:
        begin = time.perf_counter()
        logits = super()._forward(rows, on_layer)
        self.network_s += time.perf_counter() - begin
        return logits


class Microserve:
    def __init__(self, setup: Setup) -> None:
        files = open_model(setup.folder)
        weights: Weights = "int8" if setup.extra == "int8" else "float32"
        backend = Backend(default_cache_dir(), threads=setup.threads, weights=weights)
        arithmetic = open_arithmetic(files.config, backend)
        num_pages = 2 * setup.max_batch * -(-setup.max_tokens // PAGE_SIZE)
        shape = files.pool_shape(num_pages, PAGE_SIZE, weights=weights)
        self._runner = TimedRunner(files, shape, arithmetic=arithmetic)
        config = EngineConfig("bench", 1)
        make = files.tokenizer().detokenizer
        self._engine = Engine(config, self._runner, make, None, time.perf_counter)
        self._count = 0
        self.version = f"microserve, {type(arithmetic).__name__}"

    def prefill(self, prompt: list[int]) -> float:
        begin = time.perf_counter()
        self._begin([prompt], 1, GREEDY)
        self._run({})
        return time.perf_counter() - begin

    def decode(self, prompts: list[list[int]], num_new: int) -> Decoded:
        names = self._begin(prompts, num_new, GREEDY)
        made: dict[str, list[int]] = {name: [] for name in names}
        while not all(made.values()):
            self._note(made, self._engine.step(time.perf_counter()))
        begin = time.perf_counter()
        seconds = self._run(made) - begin
        return Decoded(seconds, list(made.values()))

    def overhead(self, num_sequences: int) -> dict[str, float]:
        """Seconds a step of so many decoding sequences takes, and of it without the network."""
        found: dict[str, float] = {}
        for name, sampling in (("greedy", GREEDY), ("sampled", SAMPLED)):
            prompts = [[100 + n] * 100 for n in range(num_sequences)]
            made: dict[str, list[int]] = {n: [] for n in self._begin(prompts, 40, sampling)}
            while not all(made.values()):
                self._note(made, self._engine.step(time.perf_counter()))
            steps, self._runner.network_s = self._engine.statistics().steps, 0.0
            begin = time.perf_counter()
            seconds = self._run(made) - begin
            steps = self._engine.statistics().steps - steps
            found[f"{name}_step_s"] = seconds / steps
            found[f"{name}_outside_s"] = (seconds - self._runner.network_s) / steps
        return found

    def _begin(self, prompts: list[list[int]], num_new: int, sampling: Sampling) -> list[str]:
        names = []
        for prompt in prompts:
            self._count += 1
            names.append(str(self._count))
            wanted = replace(sampling, max_tokens=num_new)
            command = StartGenerate("bench", Tokens(prompt), 0, wanted, Mailbox("box"))
            self._engine.handle(Order(names[-1], 1, "r", command), time.perf_counter())
        return names

    def _run(self, made: dict[str, list[int]]) -> float:
        while self._engine.has_work:
            self._note(made, self._engine.step(time.perf_counter()))
        return time.perf_counter()

    def _note(self, made: dict[str, list[int]], outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Output) and isinstance(outcome.message, Delta):
                made.setdefault(outcome.flow, []).extend(outcome.message.tokens)


if __name__ == "__main__":
    serve(Microserve)
