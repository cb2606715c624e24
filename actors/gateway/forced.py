"""What holds an answer to a form: OpenAI's response formats, and a call that a tool must get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.public import JsonObject, JsonSchema, Regex, ResponseFormat

from .bodies import ChatBody
from .errors import bad


def response_format(given: Mapping[str, Any] | None) -> ResponseFormat | None:
    match given:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return JsonObject()
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return JsonSchema(schema)
        case {"type": "regex", "pattern": str(pattern)}:
            return Regex(pattern)
    raise bad(
        "response_format is {'type': 'text'}, {'type': 'json_object'}, {'type': 'json_schema', "
        "'json_schema': {'schema': {...}}} or {'type': 'regex', 'pattern': '...'}",
        "response_format",
    )


def forced_call(body: ChatBody) -> dict[str, Any] | None:
    """The schema of the answer where it has to be a call of a tool.

    Raises:
        HttpError: of a tool that there is not, or one of the tools is none.
    """
    functions = body.functions
    match body.tool_choice:
        case None | "auto" | "none":
            return None
        case "required":
            wanted = None
        case {"type": "function", "function": {"name": str(wanted)}}:
            pass
        case _:
            raise bad("tool_choice is 'none', 'auto', 'required' or a function", "tool_choice")
    chosen = [f for f in functions if wanted in (None, f.get("name"))]
    if not chosen:
        raise bad(f"tool_choice: there is no tool {wanted or ''!r}", "tool_choice")
    return {"anyOf": [_call_schema(function) for function in chosen]}


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": function.get("name", "")},
            "arguments": function.get("parameters") or {"type": "object"},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
