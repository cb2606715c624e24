"""Turn a conversation into the text of a prompt, by the template the model was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bus.public import ChatMessage

from .model_errors import ChatTemplateError


class ChatTemplate:
    """A compiled chat template. Thread-safe.

    Templates come with models, so they run in Jinja's sandbox, with the few names that Hugging
    Face gives them (transformers, ``utils/chat_template_utils.py``). ``strftime_now`` is left out
    on purpose: a prompt is a function of its messages, and templates have a fixed date to fall
    back on.

    Raises:
        ChatTemplateError: the template is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        """``special_tokens`` are the names a template may use, such as ``bos_token``."""
        self._special_tokens = dict(special_tokens or {})
        try:
            environment = _environment()
            self._template = environment.from_string(source)
            names = jinja2.meta.find_undeclared_variables(environment.parse(source))
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template is not valid: {error}") from error
        self._takes_tools = "tools" in names

    def render(
        self, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """The prompt's text, up to where the assistant's answer begins.

        Raises:
            ChatTemplateError: the template rejects these messages or fails on them, or there are
                tools, or what came of them, and it does not look at those.
        """
        if (tools or any(_is_about_tools(message) for message in messages)) and (
            not self._takes_tools
        ):
            raise ChatTemplateError("this model's chat template knows no tools: leave them out")
        said = [_said(message) for message in messages]
        names = {**self._special_tokens, "tools": list(tools) or None, "documents": None}
        try:
            return self._template.render(messages=said, add_generation_prompt=True, **names)
        except ChatTemplateError:
            raise
        except Exception as error:
            # A template is a program of a stranger: it may raise anything Python can.
            raise ChatTemplateError(f"{type(error).__name__}: {error}") from error


def _is_about_tools(message: ChatMessage) -> bool:
    return message.role == "tool" or bool(message.tool_calls)


def _said(message: ChatMessage) -> dict[str, Any]:
    """As templates expect it (transformers, ``docs/source/en/chat_extras.md``): only what is there,
    and arguments as an object."""
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    if message.name:
        said["name"] = message.name
    return said


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _reject
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own filter escapes HTML, which a prompt must not contain."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _reject(message: str) -> NoReturn:
    raise ChatTemplateError(message)
