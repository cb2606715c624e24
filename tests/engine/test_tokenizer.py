"""Text and chats to tokens, and what a model folder says about its vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bus.public import ChatMessage
from engine.chat import ChatTemplate
from engine.model_errors import BrokenModel, ChatTemplateError
from engine.tokenizer import Tokenizer

from .checkpoints import CHAT_TEMPLATE, tiny_tokenizer

MESSAGES = [ChatMessage("system", "Be brief."), ChatMessage("user", "Hello {{ 7 * 7 }} 🌊")]
RENDERED = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello {{ 7 * 7 }} 🌊<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    write(tmp_path / "config.json", {"eos_token_id": 2})
    return tmp_path


def write(path: Path, contents: object) -> None:
    path.write_text(json.dumps(contents))


def test_text_becomes_tokens_and_text_again(folder: Path) -> None:
    tokenizer = Tokenizer(folder)

    tokens = tokenizer.encode("the engine counts 風 🌊")

    assert tokenizer.decode(tokens) == "the engine counts 風 🌊"
    assert max(tokens) < tokenizer.vocab_size
    detokenizer = tokenizer.detokenizer()
    assert "".join([*map(detokenizer.push, tokens), detokenizer.flush()]) == tokenizer.decode(
        tokens
    )


def test_special_tokens_are_read_in_text_and_left_out_of_answers(folder: Path) -> None:
    tokenizer = Tokenizer(folder)

    assert tokenizer.encode("<|im_end|>") == [2]
    assert tokenizer.decode([2, *tokenizer.encode("x")]) == "x"
    assert tokenizer.detokenizer().push(2) == ""


def test_settings_for_training_do_not_change_prompts(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=10)
    tokenizer.save(str(folder / "tokenizer.json"))

    assert len(Tokenizer(folder).encode("0 1 2 3 4 5 6 7 8 9 ! ? : ;")) > 10
    assert len(Tokenizer(folder).encode("x")) == 1


def test_end_tokens_come_from_every_place_that_names_them(folder: Path) -> None:
    write(folder / "config.json", {"eos_token_id": 300})
    write(folder / "generation_config.json", {"eos_token_id": [301, 302]})
    write(folder / "tokenizer_config.json", {"eos_token": {"content": "<|endoftext|>"}})

    assert Tokenizer(folder).end_tokens == {0, 2, 300, 301, 302}


@pytest.mark.parametrize(
    "place",
    [
        lambda folder: write(folder / "tokenizer_config.json", {"chat_template": CHAT_TEMPLATE}),
        lambda folder: (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE),
        lambda folder: write(
            folder / "tokenizer_config.json",
            {
                "chat_template": [
                    {"name": "tool_use", "template": "no"},
                    {"name": "default", "template": CHAT_TEMPLATE},
                ]
            },
        ),
    ],
)
def test_the_chat_template_is_found_where_models_keep_it(
    place: Callable[[Path], object], folder: Path
) -> None:
    place(folder)
    tokenizer = Tokenizer(folder)

    assert tokenizer.chat(MESSAGES) == tokenizer.encode(RENDERED)


def test_a_model_without_a_template_says_so_when_asked_to_chat(folder: Path) -> None:
    tokenizer = Tokenizer(folder)

    with pytest.raises(ChatTemplateError, match="no chat template: send a plain prompt"):
        tokenizer.chat(MESSAGES)
    assert tokenizer.encode("x")


def test_a_broken_template_only_prevents_chats(folder: Path) -> None:
    write(folder / "tokenizer_config.json", {"chat_template": "{% for %}"})
    tokenizer = Tokenizer(folder)

    with pytest.raises(ChatTemplateError, match="not valid"):
        tokenizer.chat(MESSAGES)
    assert tokenizer.encode("x")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}{{ messages|length }}", "<s>2"),
        ("{{ messages[1].content|tojson }}", '"Hello {{ 7 * 7 }} 🌊"'),
        ("{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}x{% endfor %}", "x"),
        ("{{ 1 if tools is none else 2 }}{{ strftime_now is defined }}", "1False"),
        ("{% if true %}\nno blank line\n{% endif %}\n", "no blank line\n"),
    ],
)
def test_templates_may_use_what_hugging_face_gives_them(template: str, text: str) -> None:
    assert ChatTemplate(template, {"bos_token": "<s>"}).render(MESSAGES) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7].content.upper() }}", "UndefinedError"),
        (
            "{{ ''.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "SecurityError",
        ),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_failing_template_is_an_error_of_its_own(template: str, message: str) -> None:
    with pytest.raises(ChatTemplateError, match=message):
        ChatTemplate(template).render(MESSAGES)


@pytest.mark.parametrize("contents", [None, "{", '{"model": 7}'])
def test_a_vocabulary_that_cannot_be_read_is_broken(contents: str | None, folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.unlink() if contents is None else path.write_text(contents)

    with pytest.raises(BrokenModel, match=r"tokenizer\.json: is (missing|not a tokenizer)"):
        Tokenizer(folder)


def test_many_threads_may_use_one_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(folder)
    texts = [f"the engine counts {index} 🌊" for index in range(64)]

    def there_and_back(text: str) -> str:
        detokenizer = tokenizer.detokenizer()
        return "".join(map(detokenizer.push, tokenizer.encode(text))) + detokenizer.flush()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, texts)) == texts


def test_a_token_by_itself_is_bytes_and_a_special_one_its_name(folder: Path) -> None:
    tokenizer = Tokenizer(folder)
    tokens = tokenizer.encode("ñ and \N{GRINNING FACE}")

    assert b"".join(map(tokenizer.bytes_of, tokens)).decode() == "ñ and \N{GRINNING FACE}"
    assert {tokenizer.bytes_of(token) for token in tokenizer.end_tokens} >= {b"<|im_end|>"}
