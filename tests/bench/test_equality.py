"""The benchmark that counts equal answers reads a file that breaks off, and sees differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.equality import Answer, answered, compare, result
from bench.sharegpt import turns
from engine.backend import Backend
from engine.model_files import open_model
from tests.engine.arithmetics import CACHE
from tests.engine.checkpoints import tiny_checkpoint, tiny_model

PROMPTS = [list(range(3, 3 + length)) for length in (1, 9, 40)]


def conversation(*values: tuple[str, str]) -> dict[str, object]:
    return {"id": "x", "conversations": [{"from": who, "value": what} for who, what in values]}


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_file_that_breaks_off_is_read_as_far_as_it_goes(chunk: int, tmp_path: Path) -> None:
    asked = [
        conversation(("human", "Hello 風"), ("gpt", "Hi")),
        conversation(("gpt", "I begin")),
        conversation(),
        conversation(("human", "  ")),
        conversation(("user", "Bye")),
        conversation(("human", "cut off")),
    ]
    path = tmp_path / "share.json"
    path.write_text(json.dumps(asked, ensure_ascii=False, indent=1)[:-20], encoding="utf-8")

    assert list(turns(path, chunk)) == ["Hello 風", "Bye"]
    assert list(turns(path, chunk, number=1, who=("gpt",))) == ["Hi"]


def test_equal_answers_count_as_equal_and_others_up_to_the_difference(tmp_path: Path) -> None:
    files, model = open_model(str(tiny_checkpoint(tmp_path))), tiny_model("llama", 0)
    answers = answered(files, PROMPTS, Backend(CACHE))
    spoilt = Answer(answers[1].prompt, [*answers[1].tokens[:5], 400, *answers[1].tokens[6:]])

    compared = [compare(model, answer) for answer in (*answers, spoilt)]

    assert [one.num_equal for one in compared] == [*(len(a.tokens) for a in answers), 5]
    assert [one.worst > 0 for one in compared] == [False, False, False, True]
    found = result([*answers, spoilt], compared, 1.0)
    assert found.ratios["equal_answers"] == 0.75
    assert found.figures["equal"] == 3
