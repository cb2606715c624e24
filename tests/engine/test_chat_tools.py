"""Tools in a chat: given to the templates that know them, refused by the others."""

from __future__ import annotations

import pytest

from bus.public import ChatMessage, ToolCall
from engine.chat import ChatTemplate
from engine.model_errors import ChatTemplateError

WITH_TOOLS = (
    "{% for tool in tools or [] %}T{{ tool | tojson }}\n{% endfor %}"
    "{% for message in messages %}{{ message.role }}:{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "<tool_call>{{ call.function.name }} {{ call.function.arguments | tojson }}</tool_call>"
    "{% endfor %}\n{% endfor %}"
)
WITHOUT = "{% for message in messages %}{{ message.content }}{% endfor %}"
TOOL = {"type": "function", "function": {"name": "weather"}}
CALLED = (
    ChatMessage("user", "Rain?"),
    ChatMessage("assistant", "", (ToolCall("weather", {"city": "Bonn"}, "c1"),)),
    ChatMessage("tool", "yes", tool_call_id="c1", name="weather"),
)


def test_a_template_is_given_the_tools_and_what_came_of_them() -> None:
    template = ChatTemplate(WITH_TOOLS)

    text = template.render(CALLED, [TOOL])

    assert text == (
        'T{"type": "function", "function": {"name": "weather"}}\n'
        "user:Rain?"
        'assistant:<tool_call>weather {"city": "Bonn"}</tool_call>'
        "tool:yes"
    )


@pytest.mark.parametrize(("messages", "tools"), [(CALLED[:1], [TOOL]), (CALLED, [])])
def test_a_template_that_would_not_look_at_tools_refuses_them(
    messages: tuple[ChatMessage, ...], tools: list[dict[str, object]]
) -> None:
    template = ChatTemplate(WITHOUT)

    with pytest.raises(ChatTemplateError, match="knows no tools"):
        template.render(messages, tools)
