"""Whatever is done with a request, and by however many engines, its tokens are those of one engine
alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from msgspec import Struct

from bus.codec import decode, encode
from bus.fleet import Role
from bus.messages import Accepted, Mailbox, Order, Refused, Sampling, StartGenerate
from bus.public import GenerateRequest
from bus.subjects import Subjects
from bus.tokens import Tokens
from engine.model_files import open_model
from engine.torch_runner import TorchRunner
from orchestrations.registry import names
from tests.engine.checkpoints import tiny_checkpoint
from tests.system.alone import Alone
from tests.system.fleet import Fleet, Model, fleet
from tests.system.prompts import prompts

PAGE_SIZE = 16
NUM_TOKENS = 8
GREEDY = Sampling(max_tokens=NUM_TOKENS)
SEEDED = Sampling(max_tokens=NUM_TOKENS, temperature=0.8, top_p=0.95, seed=11)
FLEETS: Mapping[int, Mapping[str, Role]] = {
    1: {"x0": "both"},
    2: {"p0": "prefill", "d0": "decode"},
    3: {"p0": "prefill", "d0": "decode", "x0": "both"},
    4: {"p0": "prefill", "p1": "prefill", "d0": "decode", "d1": "decode"},
}
FEW = slice(None, None, 4)
"""Of the prompts, where every length was tried on two engines already."""


class Case(Struct, frozen=True):
    prompt: tuple[int, ...]
    sampling: Sampling

    @property
    def request(self) -> GenerateRequest:
        how = self.sampling
        return GenerateRequest(
            prompt=self.prompt,
            max_tokens=how.max_tokens,
            temperature=how.temperature,
            top_p=how.top_p,
            seed=how.seed,
        )


class Reference:
    """What one engine alone answers, computed once for all tests."""

    def __init__(self, folder: Path) -> None:
        self.alone = Alone(str(folder))
        self.answer = cache(self._answer)

    def _answer(self, case: Case) -> list[int]:
        return self.alone.answer(Tokens(case.prompt), case.sampling)

    def cases(self, lengths: slice) -> list[Case]:
        """Prompts of many lengths, every second one to be sampled."""
        asked = prompts(self.alone.files.config.vocab_size)[lengths]
        how = (GREEDY, SEEDED) * len(asked)
        return [Case(tuple(p), s) for p, s in zip(asked, how, strict=False)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny"))


def torch_model(folder: Path) -> Model:
    files = open_model(str(folder))
    shape = files.pool_shape(512, PAGE_SIZE)
    card = TorchRunner(files, files.pool_shape(1, PAGE_SIZE)).card
    return Model(
        type(card)(card.name, card.vocab_size, card.max_context, card.end_tokens, shape),
        lambda buffer: TorchRunner(files, shape, buffer=buffer),
        files.tokenizer().detokenizer,
        files.tokenizer(),
    )


@pytest.mark.parametrize("num_engines", FLEETS)
@pytest.mark.parametrize("orchestration", names())
async def test_an_orchestration_gives_the_tokens_of_one_engine_alone_cold_and_warm(
    reference: Reference, orchestration: str, num_engines: int
) -> None:
    cases = reference.cases(slice(None) if num_engines == 2 else FEW)
    others = [Case(c.prompt, SEEDED if c.sampling == GREEDY else GREEDY) for c in cases]

    model = torch_model(reference.alone.files.folder)
    async with fleet(model, FLEETS[num_engines], orchestration) as system:
        cold = await _answers(system, cases)
        await _warm_everywhere(system, cases)
        before = _matched_tokens(system)
        warm = await _answers(system, others)
        matched = _matched_tokens(system) - before
        await system.idle()

    assert cold == [reference.answer(case) for case in cases]
    assert warm == [reference.answer(case) for case in others]
    assert matched > sum(len(case.prompt) for case in others) // 2


async def _answers(system: Fleet, cases: Sequence[Case]) -> list[list[int]]:
    answers = await asyncio.gather(*(system.ask(case.request) for case in cases))
    assert {done.reason for _, done in answers} <= {"length", "stop"}
    return [tokens for tokens, _ in answers]


async def _warm_everywhere(system: Fleet, cases: Sequence[Case]) -> None:
    """Every engine has every prompt cached, so that whoever is chosen next finds it."""
    for engine in system.members:
        for number, case in enumerate(cases):
            once = Sampling(max_tokens=1)
            start = StartGenerate(engine, Tokens(case.prompt), 0, once, Mailbox("nobody"))
            order = encode(Order(f"warm{number}", 1, "tester", start))
            subject = Subjects().command(engine, "StartGenerate")
            reply = await system.client.bus.request(subject, order, timeout_s=10)
            assert decode(reply.payload, Accepted | Refused) == Accepted()
    await system.idle()


def _matched_tokens(system: Fleet) -> int:
    return sum(m.engine.statistics().matched_tokens for m in system.members.values())
