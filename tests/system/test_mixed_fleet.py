"""Engines that keep KV differently exchange it; KV that is corrupted on the way is never used."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from bus.messages import Sampling
from bus.public import GenerateRequest
from bus.tokens import Tokens
from engine.fake import FakeRunner, fake_card
from engine.model_files import ModelFiles, open_model
from engine.torch_runner import TorchRunner
from kvtransport.layout import Runs
from kvtransport.memory import MemoryNetwork, MemoryTransport
from kvtransport.transport import PEER_ID_BYTES, PeerId
from tests.engine.checkpoints import tiny_checkpoint
from tests.system.alone import Alone
from tests.system.fleet import Model, fake_model, fleet

PROMPT = tuple(range(3, 90))
ASKED = GenerateRequest(prompt=PROMPT, max_tokens=8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")))


def torch_model(files: ModelFiles, dtype: str, page_size: int) -> Model:
    shape = files.pool_shape(128, page_size, dtype)
    return Model(
        TorchRunner(files, shape, dtype=dtype).card,
        lambda buffer: TorchRunner(files, shape, dtype=dtype, buffer=buffer),
        files.tokenizer().detokenizer,
        files.tokenizer(),
        checksums=True,
    )


async def test_pages_of_another_size_give_the_tokens_of_one_engine_alone(files: ModelFiles) -> None:
    expected = Alone(str(files.folder)).answer(Tokens(PROMPT), Sampling(max_tokens=8))
    large, small = torch_model(files, "float32", 16), torch_model(files, "float32", 8)

    async with fleet(large, others={"d0": small}) as system:
        tokens, _ = await system.ask(ASKED)
        await system.idle()
        received = system.members["d0"].engine.statistics().received_tokens

    assert tokens == expected
    assert received == len(PROMPT) - 1


@pytest.mark.parametrize(("prefill", "decode"), [("float32", "bfloat16"), ("float16", "float32")])
async def test_an_engine_goes_on_with_what_another_computed_in_other_numbers(
    files: ModelFiles, prefill: str, decode: str
) -> None:
    others = {"d0": torch_model(files, decode, 8)}

    async with fleet(torch_model(files, prefill, 16), others=others) as system:
        tokens, done = await system.ask(ASKED)
        await system.idle()
        received = system.members["d0"].engine.statistics().received_tokens

    assert (len(tokens), done.reason) == (8, "length")
    assert received == len(PROMPT) - 1


class Flipping(MemoryTransport):
    """Turns over a bit of whatever it writes or reads."""

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self.pool[runs.local[0]] ^= 1
        super().put(peer, memory, runs)
        self.pool[runs.local[0]] ^= 1

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        super().get(peer, memory, runs)
        self.pool[runs.local[0]] ^= 1


class FlippingNetwork(MemoryNetwork):
    def transport(self) -> MemoryTransport:
        flipping = Flipping(self, secrets.token_bytes(PEER_ID_BYTES))
        self.add(flipping)
        return flipping


async def test_a_request_survives_kv_that_is_corrupted_on_the_way() -> None:
    model = replace(fake_model(), checksums=True)
    expected = FakeRunner(fake_card(num_pages=1, page_size=4)).continuation(PROMPT, 8, Sampling())

    async with fleet(model, default="resilient", network=FlippingNetwork()) as system:
        tokens, done = await system.ask(ASKED)
        await system.idle()
        refused = [span for span in system.spans.spans if "corrupt" in repr(span)]

    assert (tokens, done.reason) == (expected, "length")
    assert refused, "nobody noticed"
