"""What the same bits in every batch cost where torch computes, in prefill and in decode.

float32, whole batches; both take turns by round.
"""

from __future__ import annotations

from statistics import median

import torch

from engine.arithmetic import Arithmetic
from engine.invariant_arithmetic import InvariantArithmetic
from engine.model_files import ModelFiles, open_model
from engine.torch_arithmetic import TorchArithmetic
from engine.torch_runner import TorchRunner

from .kv_dtypes import PAGE_SIZE, Measured, Plan, measured
from .progress import rounds
from .report import Figure, Result

PLANS = (
    Plan(num_prompts=1, prompt_tokens=512, num_tokens=16, num_rounds=3),
    Plan(num_prompts=8, prompt_tokens=128, num_tokens=16, num_rounds=3),
)


def run() -> Result:
    return measure(open_model(None), PLANS)


def measure(files: ModelFiles, plans: tuple[Plan, ...]) -> Result:
    device = torch.device("cpu")
    kinds: dict[str, Arithmetic] = {
        "free": TorchArithmetic(device, torch.float32),
        "invariant": InvariantArithmetic(device, torch.float32),
    }
    figures: dict[str, Figure] = {"threads": torch.get_num_threads()}
    ratios: dict[str, float] = {}
    for plan in plans:
        shape = files.pool_shape(plan.num_pages, PAGE_SIZE)
        runners = {name: TorchRunner(files, shape, arithmetic=it) for name, it in kinds.items()}
        found: dict[str, list[Measured]] = {name: [] for name in kinds}
        for _ in rounds(plan.num_rounds):
            for name, runner in runners.items():
                found[name].append(measured(runner, plan))
        prefill, decode = f"prefill_{plan.prompt_tokens}", f"decode_b{plan.num_prompts}"
        for name, several in found.items():
            prefill_s = median(one.prefill_s for one in several)
            figures[f"{name}_{prefill}_tokens_per_s"] = plan.prompt_tokens / prefill_s
            step_s = median(one.step_s for one in several)
            figures[f"{name}_{decode}_tokens_per_s"] = plan.num_prompts / step_s
        for what in (prefill, decode):
            free, invariant = (float(figures[f"{name}_{what}_tokens_per_s"]) for name in kinds)
            ratios[f"{what}_invariant_vs_free"] = invariant / free
    return Result("invariance", ratios, figures)
