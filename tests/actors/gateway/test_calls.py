"""Calls of tools in answers, however the text is cut into messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.gateway.calls import Call, CallReader

RAIN = '{"name": "rain", "arguments": {"city": "Bonn"}}'
CALL = Call("rain", '{"city": "Bonn"}')
HALF = r'{"name": "rain", "arguments": {"city": "\ud800"}}'
ANSWERS = [
    ("Plain text, with a < b.", "Plain text, with a < b.", []),
    (f"I look.<tool_call>\n{RAIN}\n</tool_call>", "I look.", [CALL]),
    (f"<tool_call>{RAIN}</tool_call><tool_call>{RAIN}</tool_call>", "", [CALL, CALL]),
    (RAIN, "", [CALL]),
    (f"[{RAIN}]", "", [CALL]),
    ('{"name": "rain", "parameters": {"city": "Bonn"}}', "", [CALL]),
    ('{"name": "snow", "arguments": {}}', '{"name": "snow", "arguments": {}}', []),
    ('{"a": 1}', '{"a": 1}', []),
    ("<tool_call>oh</tool_call>!", "<tool_call>oh</tool_call>!", []),
    (f"<tool_call>{RAIN}", "", [CALL]),
    ("<tool_ca", "<tool_ca", []),
    ('{"name": ["rain"], "arguments": {}}', '{"name": ["rain"], "arguments": {}}', []),
    (HALF, HALF, []),
]


@pytest.mark.parametrize(("answer", "text", "calls"), ANSWERS)
@given(cuts=st.lists(st.integers(0, 120), max_size=6))
def test_text_and_calls_do_not_depend_on_where_the_answer_was_cut(
    answer: str, text: str, calls: list[Call], cuts: list[int]
) -> None:
    reader, ends = CallReader(frozenset({"rain"})), [*sorted(cuts), len(answer)]
    starts = [0, *ends[:-1]]

    heard = [reader.feed(answer[a:b]) for a, b in zip(starts, ends, strict=True)]
    heard.append(reader.end())

    assert "".join(t for t, _ in heard) == text
    assert [c for _, some in heard for c in some] == calls
