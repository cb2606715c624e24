"""A policy is asked everything before it may choose for anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.fleet import Fleet
from bus.messages import Request
from orchestrations.policies import check_policy, questions
from orchestrations.policy import policy
from orchestrations.registry import load, names, policies, policy_names
from orchestrations.sandbox import check_any_file, check_policy_file, path_of
from orchestrations.source import BadStrategy

HEAD = """
from bus.fleet import Fleet
from bus.messages import Request

COUNT = []

def mine(request: Request, fleet: Fleet) -> str:
"""
FAULTS = {
    "raises": ("unhandled", "raise KeyError(request.group)", "KeyError"),
    "has no engine to choose from": ("unhandled", "return fleet.engines[0].name", "IndexError"),
    "gives no name": ("malformed", "return None", "this is None"),
    "names nobody": ("names_nobody", "return 'magic'", "no strategy 'magic'; there are adaptive"),
    "names itself": ("names_nobody", "return 'mine'", "no strategy 'mine'"),
    "counts": ("impure", "COUNT.append(1); return ('placed', 'balanced')[len(COUNT) % 2]", "twice"),
    "loops": ("stalls", "while True: pass", "no answer after"),
}


def test_the_installed_policy_is_fit_and_reaches_every_branch() -> None:
    verdict = check_policy(policy, names())

    assert verdict.passed
    assert verdict.chosen == (
        "adaptive", "data_parallel", "migrate_context", "placed", "resilient",
    )  # fmt: skip
    assert verdict.num_questions == len(list(questions())) > 200


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_in_a_process_of_its_own_and_told_with_the_question(
    name: str, tmp_path: Path
) -> None:
    problem, body, told = FAULTS[name]
    path = tmp_path / "mine.py"
    path.write_text(f"{HEAD}    {body}\n")

    verdict = check_any_file(path)

    assert not verdict.passed
    assert str(verdict).startswith("mine: not fit to be loaded (a policy; 270 questions")
    assert f"\n\n{problem}: " in str(verdict)
    assert told in str(verdict)
    assert "asked about 1 tokens, 0 to be answered, on no engine" in str(verdict)


class Odd:
    """It cannot be told from another one, nor shown."""

    def __eq__(self, other: object) -> bool:
        raise KeyError("odd")

    __hash__ = None  # type: ignore[assignment]


def test_an_answer_that_raises_when_it_is_looked_at_is_the_policys_fault() -> None:
    def odd(request: Request, fleet: Fleet) -> str:
        return Odd()  # type: ignore[return-value]

    verdict = check_policy(odd, names())

    assert [o.fault.problem for o in verdict.objections] == ["unhandled"]


def test_a_policy_may_name_what_was_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{HEAD}    return 'thrifty'\n")

    assert not check_any_file(path).passed
    assert check_any_file(path, ["thrifty"]).passed


def test_a_file_that_is_no_policy_is_refused_before_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def mine(request): return open('x').read()\n")

    with pytest.raises(BadStrategy, match="open is not allowed"):
        check_policy_file(path, ())
    path.write_text("def mine(request): return ''\n")
    with pytest.raises(BadStrategy, match=r"it must define mine\(request, fleet\) -> str"):
        check_policy_file(path, ())


def test_policies_are_known_by_name_and_are_no_strategies() -> None:
    assert policy_names() == ("policy",)
    assert set(policies()) == {"policy"}
    assert "policy" not in names()
    assert path_of("policy").name == "policy.py"
    with pytest.raises(BadStrategy, match="a policy: it chooses, and has no states"):
        load("policy")
