"""The prompt given back: its text, and the log-probabilities of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import Finished, Order, Sampling, StartGenerate
from bus.public import Delta, Done, Echo, Spoken
from bus.tokens import Tokens
from engine.engine import Engine
from engine.fake import fake_card
from engine.model_files import ModelFiles, open_model
from engine.outcomes import Outcome, Output
from engine.torch_runner import TorchRunner

from .checkpoints import tiny_checkpoint, tiny_model
from .rig import BOX, Rig, done, events, pair, reason, small, tokens

PROMPT = list(range(1, 40))


def ask(sampling: Sampling, prompt: list[int] = PROMPT, offset: int = 0) -> StartGenerate:
    return StartGenerate("a", Tokens(prompt), 0, sampling, BOX, offset)


def messages(outcomes: Iterable[Outcome]) -> list[Spoken]:
    return [outcome.message for outcome in outcomes if isinstance(outcome, Output)]


def echo(outcomes: Iterable[Outcome]) -> Echo:
    [message] = [m for m in messages(outcomes) if isinstance(m, Echo)]
    return message


def test_the_prompt_comes_once_and_before_the_answer() -> None:
    rig = Rig()
    rig.order("f", ask(Sampling(max_tokens=2, echo=True)))

    heard = messages(rig.run())

    text = "".join(f"{token} " for token in PROMPT)
    assert heard[0] == Echo("f", tuple(PROMPT), text)
    assert [type(message) for message in heard[1:]] == [Delta, Delta, Done]


def test_who_did_not_ask_for_the_prompt_does_not_get_it() -> None:
    rig = Rig()
    rig.order("f", ask(Sampling(max_tokens=2)))

    assert not any(isinstance(message, Echo) for message in messages(rig.run()))


def test_an_answer_that_goes_on_here_does_not_begin_again_with_the_prompt() -> None:
    rig = Rig()
    sampling = Sampling(max_tokens=5, echo=True, prompt_logprobs=1)
    answer = rig.runner.continuation(PROMPT, 2)

    rig.order("f", ask(sampling, PROMPT + answer, offset=2))

    assert [type(message) for message in messages(rig.run())] == [Delta, Delta, Delta, Done]


@pytest.mark.parametrize("max_tokens", [0, 3])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("length", [1, 2, 16, 39])
def test_every_token_but_the_first_has_its_log_probability(
    max_tokens: int, warm: bool, length: int
) -> None:
    rig, prompt = Rig(), PROMPT[:length]
    if warm:
        rig.start("g", PROMPT)
        rig.run()

    outcomes = rig.order("f", ask(Sampling(max_tokens=max_tokens, prompt_logprobs=2), prompt))
    outcomes += rig.run()

    heard = echo(outcomes)
    assert heard.tokens == tuple(prompt)
    assert [None, *prompt[1:]] == [one and one.token for one in heard.logprobs]
    assert all(len(one.top) == 2 for one in heard.logprobs[1:] if one)
    assert heard.text == ""
    assert tokens(outcomes, "f") == rig.runner.continuation(prompt, max_tokens)
    assert done(outcomes).usage.completion_tokens == max_tokens
    rig.assert_empty()


def test_scoring_a_prompt_alone_makes_no_token() -> None:
    rig = Rig()
    rig.order("f", ask(Sampling(max_tokens=0, prompt_logprobs=0)))

    outcomes = rig.run()

    assert [type(message) for message in messages(outcomes)] == [Echo, Done]
    assert [type(event) for event in events(outcomes)] == [Finished]
    assert done(outcomes).reason == "length"


def test_a_prompt_that_is_only_wanted_back_is_not_computed() -> None:
    rig = Rig()

    outcomes = rig.order("f", ask(Sampling(max_tokens=0, echo=True)))

    assert [type(message) for message in messages(outcomes)] == [Echo, Done]
    assert not rig.engine.has_work
    rig.assert_empty()


def test_nothing_to_make_and_nothing_to_say_is_refused() -> None:
    assert reason(Rig().order("f", ask(Sampling(max_tokens=0)))) == "bad_request"


def test_a_received_context_is_computed_again_where_its_logits_are_wanted() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.run()
    network.settle()
    b.hear()
    command = StartGenerate("b", Tokens(PROMPT), 0, Sampling(max_tokens=2, prompt_logprobs=0), BOX)
    b.order("f", command)

    outcomes = b.run()

    assert len(echo(outcomes).logprobs) == len(PROMPT)
    assert tokens(outcomes, "f") == b.runner.continuation(PROMPT, 2)
    assert done(outcomes).usage.cached_tokens == 0


def test_preemption_loses_and_doubles_no_log_probability() -> None:
    """The second gives way to the growing first in the middle of its prompt."""
    rig = Rig(card=fake_card(num_pages=13), config=small(prefill_chunk=2))
    rig.start("f", PROMPT[:4], max_tokens=40)
    rig.order("g", ask(Sampling(max_tokens=3, prompt_logprobs=0)))

    outcomes = rig.run()

    assert rig.statistics.preemptions > 0
    assert [entry and entry.token for entry in echo(outcomes).logprobs] == [None, *PROMPT[1:]]
    assert tokens(outcomes, "g") == rig.runner.continuation(PROMPT, 3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))
    torch.set_num_threads(threads)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 60), st.integers(1, 32))
def test_they_are_those_of_transformers_however_the_prompt_is_cut(
    files: ModelFiles, length: int, chunk: int
) -> None:
    prompt = np.random.default_rng(length).integers(3, 500, length)
    runner = TorchRunner(files, files.pool_shape(16, 8))
    config = small(prefill_chunk=chunk)
    engine = Engine(config, runner, files.tokenizer().detokenizer, None, lambda: 0.0)
    sampling = Sampling(max_tokens=1, prompt_logprobs=3)
    engine.handle(Order("f", 1, "r", ask(sampling, prompt.tolist())), 0.0)
    outcomes: list[Outcome] = []
    while engine.has_work:
        outcomes += engine.step(0.0)

    with torch.inference_mode():
        logits = tiny_model("llama", 0)(torch.from_numpy(prompt)[None]).logits[0]
    wanted = logits.log_softmax(-1)
    entries = echo(outcomes).logprobs
    assert entries[0] is None
    for place, entry in enumerate(entries[1:], 1):
        assert entry is not None
        assert entry.logprob == pytest.approx(float(wanted[place - 1, prompt[place]]), abs=1e-3)
        top = wanted[place - 1].topk(3).values.tolist()
        assert [value for _, value in entry.top] == pytest.approx(top, abs=1e-3)
