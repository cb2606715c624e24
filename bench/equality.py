"""The default model's greedy answers to 100 ShareGPT prompts, against transformers' on its weights.

Our engine answers all prompts, as many at once as it takes. Then transformers computes each prompt
with our answer behind it, in one forward pass, and says which token is likeliest after each: an
answer is equal where every token of it is. If so, transformers' own greedy decoding gives the same
answer: its first token is our first, and so on. What comes after a difference is not compared.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from msgspec import Struct

from bus.messages import Mailbox, Order, Sampling, StartGenerate
from bus.public import ChatMessage, Delta, Done
from bus.tokens import Tokens
from engine.backend import Backend
from engine.config import EngineConfig
from engine.engine import Engine
from engine.model_files import ModelFiles, default_cache_dir, open_model
from engine.opening import open_arithmetic
from engine.outcomes import Output
from engine.torch_runner import TorchRunner

from .progress import each, steps
from .report import AtLeast, Result
from .sharegpt import first_turns

NUM_PROMPTS, MAX_PROMPT, NUM_NEW = 100, 512, 32
RUNNING, PAGE_SIZE = 16, 16


class Answer(Struct, frozen=True):
    prompt: list[int]
    tokens: list[int]


class Compared(Struct, frozen=True):
    num_equal: int
    """Tokens before the first difference, or all."""
    worst: float
    """By how much logit the likeliest token beats ours at the difference; 0 where there is none."""
    closest: float
    """The least lead of the likeliest token over the next one, up to there."""


def run() -> Result:
    files = open_model()
    prompts = prompts_of(files, NUM_PROMPTS)
    began_s = perf_counter()
    answers = answered(files, prompts)
    took_s = perf_counter() - began_s
    model = reference(files)
    compared = [compare(model, answer) for answer in each(answers, "compared")]
    return result(answers, compared, took_s)


def result(answers: list[Answer], compared: list[Compared], took_s: float) -> Result:
    equal = [
        one.num_equal == len(answer.tokens) for answer, one in zip(answers, compared, strict=True)
    ]
    num_tokens = sum(len(answer.tokens) for answer in answers)
    return Result(
        "equality",
        {
            "equal_answers": sum(equal) / len(answers),
            "equal_tokens": sum(one.num_equal for one in compared) / num_tokens,
        },
        {
            "prompts": len(answers),
            "equal": sum(equal),
            "prompt_tokens": sum(len(answer.prompt) for answer in answers),
            "answer_tokens": num_tokens,
            "widest_gap_at_a_difference_logits": max(one.worst for one in compared),
            "closest_call_logits": min(one.closest for one in compared),
            "engine_s": took_s,
        },
        {"equal_answers": AtLeast(0.99)},
    )


def prompts_of(files: ModelFiles, count: int) -> list[list[int]]:
    """Through the model's chat template; those that are long are left out."""
    chosen: list[list[int]] = []
    for text in first_turns(10 * count):
        ids = files.tokenizer().chat([ChatMessage("user", text)])
        if len(ids) <= MAX_PROMPT and len(chosen) < count:
            chosen.append(ids)
    return chosen


def answered(
    files: ModelFiles, prompts: list[list[int]], backend: Backend | None = None
) -> list[Answer]:
    """By the whole engine: batches, chunks, pages and the prefix cache as they come. By our kernels
    where they can, in float32 where it is not said."""
    backend = backend or Backend(default_cache_dir())
    num_pages = RUNNING * -(-(MAX_PROMPT + NUM_NEW) // PAGE_SIZE)
    shape = files.pool_shape(num_pages, PAGE_SIZE, backend.dtype, backend.weights)
    arithmetic = open_arithmetic(files.config, backend)
    runner = TorchRunner(files, shape, dtype=backend.dtype, arithmetic=arithmetic)
    config = EngineConfig("equality", 0, max_running=RUNNING)
    engine = Engine(config, runner, files.tokenizer().detokenizer, None, perf_counter)
    for number, prompt in enumerate(prompts):
        command = StartGenerate(
            "equality", Tokens(prompt), 0, Sampling(max_tokens=NUM_NEW), Mailbox("nobody")
        )
        engine.handle(Order(str(number), 1, "nobody", command), 0.0)
    tokens: dict[str, list[int]] = {str(number): [] for number in range(len(prompts))}
    with steps(len(prompts), "answered") as step:
        while engine.has_work:
            for outcome in engine.step(0.0):
                if isinstance(outcome, Output) and isinstance(outcome.message, Delta):
                    tokens[outcome.flow] += outcome.message.tokens
                elif isinstance(outcome, Output) and isinstance(outcome.message, Done):
                    step()
    return [Answer(prompt, tokens[str(number)]) for number, prompt in enumerate(prompts)]


def reference(files: ModelFiles) -> Any:
    """transformers' own network on the same float32 weights."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(files.folder, dtype=torch.float32).eval()


def compare(model: Any, answer: Answer) -> Compared:
    begin = len(answer.prompt)
    ids = torch.tensor([answer.prompt + answer.tokens])
    with torch.inference_mode():
        logits = model(ids).logits[0, begin - 1 : -1]
    given = torch.tensor(answer.tokens)
    wrong = (logits.argmax(-1) != given).nonzero().flatten().tolist()
    num_equal = wrong[0] if wrong else len(answer.tokens)
    best = logits.topk(2).values
    leads = (best[:, 0] - best[:, 1])[: num_equal + 1]
    worst = float(best[num_equal, 0] - logits[num_equal, given[num_equal]]) if wrong else 0.0
    return Compared(num_equal, worst, float(leads.min()))
