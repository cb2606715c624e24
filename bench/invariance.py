"""What the same bits in every batch cost where torch computes, in prefill and in decode.

float32, whole batches, network and sampler; *free* is torch's own order (``--no-invariant``), and
both take turns by round. MICROSERVE_BENCH_ROUNDS and MICROSERVE_BENCH_THREADS (2) change how many.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from statistics import median

import torch
from msgspec.structs import replace

from engine.arithmetic import Arithmetic
from engine.invariant_arithmetic import InvariantArithmetic
from engine.model_files import ModelFiles, open_model
from engine.torch_arithmetic import TorchArithmetic
from engine.torch_runner import TorchRunner

from .kv_dtypes import PAGE_SIZE, Measured, Plan, measured
from .progress import rounds
from .report import Figure, Result

PLANS = (
    Plan(num_prompts=1, prompt_tokens=512, num_tokens=12, num_rounds=3),
    Plan(num_prompts=4, prompt_tokens=128, num_tokens=12, num_rounds=3),
    Plan(num_prompts=16, prompt_tokens=64, num_tokens=12, num_rounds=3),
)


def run() -> Result:
    """In about a minute where nobody else wants the processors, and in many where somebody does:
    the threads of torch wait for each other."""
    torch.set_num_threads(int(os.environ.get("MICROSERVE_BENCH_THREADS", "2")))
    num_rounds = int(os.environ.get("MICROSERVE_BENCH_ROUNDS", "3"))
    return measure(open_model(None), tuple(replace(p, num_rounds=num_rounds) for p in PLANS))


def measure(files: ModelFiles, plans: tuple[Plan, ...]) -> Result:
    """Prefill and decode of each plan. A round that does not count comes first."""
    figures: dict[str, Figure] = {"threads": torch.get_num_threads()}
    ratios: dict[str, float] = {}
    for plan in plans:
        found = _measured(files, plan)
        for what, rates in _rates(plan, found).items():
            figures |= {f"{kind}_{what}_tokens_per_s": rate for kind, rate in rates.items()}
            ratios[f"{what}_invariant_vs_free"] = rates["invariant"] / rates["free"]
    return Result("invariance", ratios, figures)


def _measured(files: ModelFiles, plan: Plan) -> Mapping[str, list[Measured]]:
    device = torch.device("cpu")
    kinds: dict[str, Arithmetic] = {
        "free": TorchArithmetic(device, torch.float32),
        "invariant": InvariantArithmetic(device, torch.float32),
    }
    shape = files.pool_shape(plan.num_pages, PAGE_SIZE)
    runners = {name: TorchRunner(files, shape, arithmetic=it) for name, it in kinds.items()}
    found: defaultdict[str, list[Measured]] = defaultdict(list)
    for number in rounds(1 + plan.num_rounds, f"batch {plan.num_prompts}"):
        for name, runner in runners.items():
            one = measured(runner, plan)
            found[name] += [one] if number else []
    return found


def _rates(plan: Plan, found: Mapping[str, list[Measured]]) -> dict[str, dict[str, float]]:
    """Tokens per second, medians of the rounds, of prefill and decode by kind."""
    prefill = {
        name: plan.prompt_tokens / median(one.prefill_s for one in several)
        for name, several in found.items()
    }
    decode = {
        name: plan.num_prompts / median(one.step_s for one in several)
        for name, several in found.items()
    }
    return {f"prefill_{plan.prompt_tokens}": prefill, f"decode_b{plan.num_prompts}": decode}
