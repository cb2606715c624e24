"""The default model against answers that transformers gave from the same GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec import Struct

from bus.messages import Sampling
from bus.public import ChatMessage
from engine.model_files import ModelFiles, open_model
from engine.runner import Choice, Ids, Row, Sampled
from engine.torch_runner import TorchRunner

from .arithmetics import ARITHMETICS

PAGE_SIZE = 16
PAGES_PER_ROW = 6


class Prompt(Struct, frozen=True):
    text: str
    ids: list[int]
    greedy: list[int]


class Answers(Struct, frozen=True):
    made_by: str
    chat_message: str
    chat_ids: list[int]
    prompts: list[Prompt]


ANSWERS = msgspec.json.decode(Path(__file__).with_name("smollm2.json").read_bytes(), type=Answers)


@pytest.fixture(scope="module")
def files() -> Iterator[ModelFiles]:
    """From the user's cache: conversion takes seconds, and every engine of the suite needs it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_model()
    torch.set_num_threads(before)


def test_it_is_known_by_its_plain_name(files: ModelFiles) -> None:
    assert files.name == "SmolLM2-135M-Instruct"
    assert files.config.max_context == 8192
    assert files.tokenizer().end_tokens == {2}


@pytest.mark.parametrize("prompt", ANSWERS.prompts, ids=lambda prompt: prompt.text[:12])
def test_texts_become_the_same_tokens_as_in_transformers(prompt: Prompt, files: ModelFiles) -> None:
    assert files.tokenizer().encode(prompt.text) == prompt.ids


def test_a_chat_becomes_the_same_tokens_as_in_transformers(files: ModelFiles) -> None:
    ids = files.tokenizer().chat([ChatMessage("user", ANSWERS.chat_message)])

    assert ids == ANSWERS.chat_ids


def test_digits_are_split_off_before_words_are(files: ModelFiles) -> None:
    """As in the model's own tokenizer.json and in llama.cpp. The GGUF loader of transformers splits
    words first, and so joins the line ends of this text in another way."""
    ids = files.tokenizer().encode("x\r\n\n12")

    assert [files.tokenizer().decode([token]) for token in ids] == ["x", "\r", "\n\n", "1", "2"]


def packed(tokens: list[int]) -> Ids:
    return np.array(tokens, np.int32)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_greedy_answers_equal_those_of_transformers(arithmetic: str, files: ModelFiles) -> None:
    prompts = ANSWERS.prompts
    num_new = len(prompts[0].greedy)
    shape = files.pool_shape(len(prompts) * PAGES_PER_ROW, PAGE_SIZE)
    runner = TorchRunner(files, shape, arithmetic=ARITHMETICS[arithmetic]())
    blocks = np.random.default_rng(0).permutation(len(prompts) * PAGES_PER_ROW).astype(np.int32)
    tables = blocks.reshape(len(prompts), PAGES_PER_ROW)

    begins = [0] * len(prompts)
    texts = [list(prompt.ids) for prompt in prompts]
    for _ in range(num_new):
        sampled = runner.run(
            [
                Row(ids[begin:], begin, table, (Choice(Sampling(), ids, len(ids)),))
                for ids, begin, table in zip(map(packed, texts), begins, tables, strict=True)
            ]
        )
        begins = [len(text) for text in texts]
        for text, [one] in zip(texts, sampled, strict=True):
            assert isinstance(one, Sampled)
            text.append(one.token)

    assert texts == [prompt.ids + prompt.greedy for prompt in prompts]
