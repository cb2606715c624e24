"""The gateway as users run it: processes, a broker, a model in torch, the `openai` package."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from bus.interface import Message
from bus.public import ChatMessage, Delta, GenerateRequest
from tests.bus.parties import reach
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
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Bonn", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "rain", "parameters": CITY}}
SYSTEM: Any = {"role": "system", "content": "be brief"}
TEMPLATE = """\
{%- set knows = messages[0].role == 'system' -%}
{%- if tools and not knows %}{{ raise_exception('it knows no tools here') }}{% endif -%}
{%- for tool in tools or [] %}T{{ tool | tojson }}{% endfor -%}
{%- for message in messages -%}
{{ message.role }}:{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{{ call.function.name }} {{ call.function.arguments | tojson }}</tool_call>
{%- endfor -%}
{%- endfor -%}"""
"""It takes tools only where the chat begins with a system's message."""


async def test_the_openai_client_reads_what_any_other_client_reads(tmp_path: Path) -> None:
    port, folder = _free_port(), tiny_checkpoint(tmp_path / "tiny")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    model = str(folder)

    async with (
        real_fleet(model, (("p0", "prefill"), ("d0", "decode")), tmp_path, http_port=port) as real,
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as ai,
    ):
        introduced = await _introduced(real)
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
        await _tools_are_called_and_told_what_came_of_it(ai, given)
        await _a_file_of_keys_lets_in_whoever_has_one(real, model, tmp_path)
        await real.no_page_held()

    assert introduced == {
        f"p0: prefill, {real.model}",
        f"d0: decode, {real.model}",
        f"r0: disaggregated, {real.model}",
        f"g0: {real.model} by HTTP on 127.0.0.1:{port}",
    }

    assert whole.choices[0].message.content == "".join(streamed) == ours
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.content or ()) == 12
    assert all(e.logprob == e.top_logprobs[0].logprob for e in logprobs.content or ())
    for choice in formed.choices:
        assert json.loads(choice.message.content or "")["colour"] in ("red", "blue")


async def _introduced(real: Real) -> set[str]:
    """What ``nats micro ls`` shows of everybody who is up."""
    told: set[str] = set()

    async def on_info(message: Message) -> None:
        told.add(json.loads(message.payload)["description"])

    inbox = real.bus.inbox()
    await real.bus.subscribe(inbox, on_info)
    await real.bus.publish("$SRV.INFO", b"", reply=inbox)
    await reach(lambda: len(told) >= 4)
    return told


async def _tools_are_called_and_told_what_came_of_it(
    ai: openai.AsyncOpenAI, given: dict[str, Any]
) -> None:
    asked = {**given, "messages": [SYSTEM, *MESSAGES], "tools": [TOOL], "max_tokens": 300}
    first = await ai.chat.completions.create(**asked, tool_choice="required")
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "rain"
    assert json.loads(call.function.arguments)["city"] in ("Bonn", "Oslo")

    result = {"role": "tool", "tool_call_id": call.id, "content": "yes"}
    told = {**asked, "messages": [SYSTEM, *MESSAGES, choice.message, result], "max_tokens": 4}
    second = await ai.chat.completions.create(**told, tool_choice="none")
    assert first.usage is not None
    assert second.usage is not None
    assert second.choices[0].message.content
    streamed = [
        call
        async for chunk in await ai.chat.completions.create(
            **asked, tool_choice="required", stream=True
        )
        for call in chunk.choices[0].delta.tool_calls or ()
    ]
    assert "".join(c.function.name or "" for c in streamed if c.function) == "rain"


async def _a_file_of_keys_lets_in_whoever_has_one(real: Real, model: str, folder: Path) -> None:
    port, keys = _free_port(), folder / "keys"
    keys.write_text("# of the night shift\nmoon\n")
    given = ("--name", "g1", "--port", str(port), "--model", model, "--keys", str(keys))
    child = await real.fleet.children.start("g1", ("gateway", *given))
    await child.ready()
    url = f"http://127.0.0.1:{port}/v1/models"
    async with aiohttp.ClientSession() as session:
        for key, status in (("moon", 200), ("# of the night shift", 401), ("sun", 401)):
            answer = await session.get(url, headers={"Authorization": f"Bearer {key}"})
            assert answer.status == status
        assert (await session.get(url)).status == 401


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
