"""What an answer is to look like: from the public words for it to a grammar."""

from __future__ import annotations

from bus.codec import encode_json
from bus.messages import Grammar
from bus.public import GenerateRequest, JsonObject, JsonSchema, Regex
from engine.grammar import BadGrammar, check

MAX_CHARS = 2**16


def grammar_of(asked: GenerateRequest) -> Grammar | None:
    """
    Raises:
        BadGrammar: no answer can be held to it, or other fields contradict it.
    """
    grammar = _written(asked)
    if grammar is None:
        return None
    if asked.min_tokens or asked.ignore_eos:
        raise BadGrammar("with min_tokens or ignore_eos: the answer ends where its format does")
    if len(grammar.text) > MAX_CHARS:
        raise BadGrammar(f"{len(grammar.text)} characters; allowed are {MAX_CHARS}")
    check(grammar)
    return grammar


def _written(asked: GenerateRequest) -> Grammar | None:
    match asked.response_format:
        case None:
            return None
        case JsonSchema(schema):
            return Grammar("json_schema", encode_json(schema).decode())
        case JsonObject():
            return Grammar("json_schema", '{"type": "object"}')
        case Regex(pattern):
            return Grammar("regex", pattern)
