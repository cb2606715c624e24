"""The gateway as users run it: processes, a broker, a model in torch, the `openai` package."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import openai
import pytest

from bus.public import ChatMessage, Delta, GenerateRequest
from tests.engine.checkpoints import tiny_checkpoint
from tests.system.real import Real, real_fleet

pytestmark = pytest.mark.timeout(180)

MESSAGES: Any = [{"role": "user", "content": "the engine counts"}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
TOOL: Any = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}


async def test_the_openai_client_reads_what_any_other_client_reads(tmp_path: Path) -> None:
    port, model = _free_port(), str(tiny_checkpoint(tmp_path / "tiny"))

    async with (
        real_fleet(model, (("p0", "prefill"), ("d0", "decode")), tmp_path, http_port=port) as real,
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as ai,
    ):
        ours = await _text(real)
        given: Any = {"model": real.model, "messages": MESSAGES, "temperature": 0}
        whole = await ai.chat.completions.create(
            **given, max_tokens=12, logprobs=True, top_logprobs=1
        )
        stream = await ai.chat.completions.create(**given, max_tokens=12, stream=True)
        streamed = [c.choices[0].delta.content or "" async for c in stream]
        formed = await ai.chat.completions.create(
            **given, max_tokens=60, response_format=FORMAT, n=2
        )
        with pytest.raises(openai.BadRequestError, match="knows no tools"):
            await ai.chat.completions.create(**given, tools=[TOOL])
        await real.no_page_held()

    assert whole.choices[0].message.content == "".join(streamed) == ours
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.content or ()) == 12
    assert all(e.logprob == e.top_logprobs[0].logprob for e in logprobs.content or ())
    for choice in formed.choices:
        assert json.loads(choice.message.content or "")["colour"] in ("red", "blue")


async def _text(real: Real) -> str:
    messages = (ChatMessage("user", MESSAGES[0]["content"]),)
    request = GenerateRequest(messages=messages, max_tokens=12)
    heard = [m async for m in real.client.generate(real.model, request)]
    return "".join(m.text for m in heard if isinstance(m, Delta))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
