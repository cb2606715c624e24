"""Grammars by llguidance: what they let an answer go on with, and which are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from bus.messages import Grammar, Order, Sampling, StartGenerate
from bus.public import Done
from bus.tokens import Tokens
from engine.constraint import Compiled, ConstraintFailed, Mask
from engine.engine import Engine
from engine.grammar import BadGrammar, GrammarCompiler, check
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Outcome, Output
from engine.runner import Choice, Sampled
from engine.sampler import choose
from engine.torch_runner import TorchRunner

from .checkpoints import tiny_checkpoint
from .rig import BOX, deltas, small, tokens

PROMPT = list(range(1, 11))
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def regex(pattern: str) -> Grammar:
    return Grammar("regex", pattern)


def schema(contents: dict[str, Any]) -> Grammar:
    return Grammar("json_schema", json.dumps(contents))


# --- bad grammars -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        (regex("["), "unclosed character class"),
        (regex("(?<=a)b"), "look-around.*not supported"),
        (schema({"type": "foo"}), "Invalid type: foo"),
        (schema({"$ref": "#/nowhere"}), "'/nowhere' does not exist"),
        (schema({"not": {"type": "string"}}), "Unimplemented.*not"),
        (Grammar("json_schema", "{"), "JSON|EOF"),
    ],
)
def test_a_bad_grammar_is_refused_with_the_reason(grammar: Grammar, words: str) -> None:
    said = complaint(grammar)

    assert re.search(words, said)
    assert "\n" not in said


@pytest.mark.parametrize("grammar", [schema(SCHEMA), regex("[a-z]{3}")])
def test_a_good_grammar_passes(grammar: Grammar) -> None:
    assert complaint(grammar) == ""


def complaint(grammar: Grammar) -> str:
    """What is wrong with it."""
    try:
        check(grammar)
    except BadGrammar as error:
        return str(error)
    return ""


# --- on a real vocabulary -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def compiler(files: ModelFiles) -> Iterator[GrammarCompiler]:
    with compiler_of(files, SimpleQueue()) as made:
        yield made


def compiler_of(files: ModelFiles, told: SimpleQueue[Compiled]) -> GrammarCompiler:
    tokenizer = files.tokenizer()
    size = files.config.vocab_size
    return GrammarCompiler(tokenizer.document, size, tokenizer.end_tokens, told.put)


def ids(mask: Mask) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist())


def test_only_tokens_that_a_sentence_may_go_on_with_are_allowed(
    files: ModelFiles, compiler: GrammarCompiler
) -> None:
    constraint = compiler.constraint(regex("ab*c"))
    tokenizer = files.tokenizer()

    first = ids(constraint.allowed())
    for token in tokenizer.encode("abbc"):
        constraint.push(token)

    assert {tokenizer.decode([token]) for token in first} <= {"a", "ab", "abb", "ac", "abc"}
    assert tokenizer.encode("a")[0] in first
    assert ids(constraint.allowed()) == tokenizer.end_tokens


def test_a_copy_goes_its_own_way(files: ModelFiles, compiler: GrammarCompiler) -> None:
    constraint = compiler.constraint(regex("a[bc]"))
    [a, b] = files.tokenizer().encode("ab")
    constraint.push(a)

    constraint.copy().push(b)

    assert b in ids(constraint.allowed())


def test_a_token_that_is_not_allowed_is_a_failure(
    files: ModelFiles, compiler: GrammarCompiler
) -> None:
    with pytest.raises(ConstraintFailed, match="doesn't satisfy"):
        compiler.constraint(regex("a")).push(files.tokenizer().encode("b")[0])


def test_compiling_ends_in_an_event_whatever_the_grammar(files: ModelFiles) -> None:
    told: SimpleQueue[Compiled] = SimpleQueue()
    with compiler_of(files, told) as compiler:
        compiler.compile("f", 3, regex("a"))
        compiler.compile("g", 1, regex("["))
        good, bad = told.get(timeout=30), told.get(timeout=30)

    assert (good.flow, good.attempt, good.error) == ("f", 3, "")
    assert good.constraint is not None
    assert (bad.flow, bad.constraint) == ("g", None)
    assert "unclosed" in bad.error


class TestAnswers:
    """Of a random network, which left alone says anything but JSON."""

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("temperature", [0.0, 1.5])
    def test_an_answer_is_a_sentence_of_its_grammar(
        self, seed: int, temperature: float, files: ModelFiles
    ) -> None:
        sampling = Sampling(max_tokens=300, temperature=temperature, seed=seed)
        patterns = {"s": schema(SCHEMA), "r": regex("[0-9]{3}-[a-z]{2,5}!?")}

        outcomes = answered(
            files, {flow: replace(sampling, grammar=g) for flow, g in patterns.items()}
        )

        endings = {m.flow: m.reason for m in messages(outcomes) if isinstance(m, Done)}
        assert endings == {"s": "stop", "r": "stop"}
        said = {f: "".join(d.text for d in deltas(outcomes) if d.flow == f) for f in patterns}
        assert re.fullmatch("[0-9]{3}-[a-z]{2,5}!?", said["r"])
        answer = json.loads(said["s"])
        assert answer.keys() == {"name", "age"}
        assert isinstance(answer["age"], int)

    def test_neighbours_without_a_grammar_are_not_disturbed(self, files: ModelFiles) -> None:
        plain = Sampling(max_tokens=20)
        alone = answered(files, {"p": plain})

        together = answered(files, {"p": plain, "r": Sampling(grammar=regex("[ab]{9}"))})

        assert tokens(together, "p") == tokens(alone, "p")

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_guesses_change_nothing_but_the_number_of_steps(
        self, temperature: float, files: ModelFiles
    ) -> None:
        """Answers that repeat themselves, by their grammar or by chance, to their last token."""
        patterns = ["(ab-){12}", "([ab]{2}:){3,20}", "(yes|no)( yes| no){9}"]
        asked = {
            str(number): Sampling(60, temperature, seed=number, grammar=regex(pattern))
            for number, pattern in enumerate(patterns)
        }

        plain, guessed = answered(files, asked), answered(files, asked, draft_tokens=4)

        for flow in asked:
            assert tokens(guessed, flow) == tokens(plain, flow)
        assert len(deltas(guessed)) < 0.8 * len(deltas(plain))


def answered(files: ModelFiles, asked: dict[str, Sampling], draft_tokens: int = 0) -> list[Outcome]:
    told: SimpleQueue[Compiled] = SimpleQueue()
    runner = TorchRunner(files, files.pool_shape(128, 8))
    outcomes: list[Outcome] = []
    with compiler_of(files, told) as compiler:
        detokenizer = files.tokenizer().detokenizer
        config = small(draft_tokens=draft_tokens, max_batch_tokens=64)
        engine = Engine(config, runner, detokenizer, None, lambda: 0.0, compiler)
        for flow, sampling in asked.items():
            command = StartGenerate("a", Tokens(PROMPT), 0, sampling, BOX)
            outcomes += engine.handle(Order(flow, 1, "r", command), 0.0)
        for _ in [flow for flow, sampling in asked.items() if sampling.grammar]:
            outcomes += engine.handle(told.get(timeout=30), 0.0)
        while engine.has_work:
            outcomes += engine.step(0.0)
    return outcomes


def messages(outcomes: Iterable[Outcome]) -> list[Any]:
    return [outcome.message for outcome in outcomes if isinstance(outcome, Output)]


def test_a_mask_leaves_the_distribution_that_transformers_leaves(files: ModelFiles) -> None:
    from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(0))
    bits = np.random.default_rng(0).integers(0, 2, 40).astype(np.uint8)
    chosen = [
        Choice(
            Sampling(temperature=1.0, seed=seed),
            np.array([1], np.int32),
            1,
            allowed=np.packbits(bits, bitorder="little"),
        )
        for seed in range(2000)
    ]

    drawn = [
        one.token for one in choose(logits.expand(2000, -1), chosen) if isinstance(one, Sampled)
    ]

    processor: Any = PrefixConstrainedLogitsProcessor(lambda *_: np.flatnonzero(bits).tolist(), 1)
    wanted = processor(torch.tensor([[1]]), logits)[0].softmax(0).numpy() * 2000
    counts = np.bincount(drawn, minlength=40)
    assert counts[bits == 0].sum() == 0
    likely = wanted > 5
    chi_square = ((counts[likely] - wanted[likely]) ** 2 / wanted[likely]).sum()
    assert chi_square < 45.3  # at most 20 degrees of freedom, p = 0.001


def test_the_vocabulary_of_sentencepiece_models_can_be_constrained(tmp_path: Path) -> None:
    from .vocabularies import sentencepiece_tokenizer

    tokenizer = sentencepiece_tokenizer()
    told: SimpleQueue[Compiled] = SimpleQueue()
    document, size = tokenizer.to_str(), tokenizer.get_vocab_size()
    with GrammarCompiler(document, size, [2], told.put) as compiler:
        constraint = compiler.constraint(regex("the fox"))

    allowed = {tokenizer.id_to_token(token) for token in ids(constraint.allowed())}
    assert "t" in allowed
    assert not {"f", "o", "▁fox"} & allowed
