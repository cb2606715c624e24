"""Policies: which strategy serves a request, decided for each; and whether one may be loaded.

A policy is a pure function from a request and a fleet to a strategy's name. It has no states, so to
check it is to ask it: of every kind of request, on every kind of fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import product
from typing import Final, TypeAlias

from msgspec import Struct

from bus.fleet import Fleet
from bus.messages import Mailbox, Request, Sampling
from bus.tokens import Tokens

from .explore import ReachesOut, TooSlow
from .rules import Fault
from .shapes import FLEETS

Policy: TypeAlias = Callable[[Request, Fleet], str]

LENGTHS: Final = (1, 63, 64, 1000, 8000)
MAX_TOKENS: Final = (0, 1, 128)
GROUPS: Final = ("", "law")


class Question(Struct, frozen=True):
    """What a policy is asked about, and that in words."""

    words: str
    request: Request
    fleet: Fleet


class Objection(Struct, frozen=True):
    """A rule that a policy breaks, and the question by which it was found."""

    fault: Fault
    question: str

    def __str__(self) -> str:
        return f"{self.fault.problem}: {self.fault.message}\n  asked about {self.question}"


class PolicyVerdict(Struct, frozen=True, tag=True):
    name: str
    num_questions: int
    chosen: tuple[str, ...]
    """The strategies that it chose."""
    objections: tuple[Objection, ...] = ()
    """One of each kind."""

    @property
    def passed(self) -> bool:
        return not self.objections

    def __str__(self) -> str:
        word = "passed" if self.passed else "not fit to be loaded"
        chosen = ", ".join(self.chosen) or "nothing"
        line = f"{self.name}: {word} (a policy; {self.num_questions} questions, chose {chosen})"
        return "\n\n".join([line, *map(str, self.objections)])


def check_policy(policy: Policy, known: Collection[str]) -> PolicyVerdict:
    """Ask it everything. Never raises for what the policy does; ``known`` are the strategies that
    it may name."""
    chosen, objections = dict[str, None](), dict[str, Objection]()
    asked = list(questions())
    for question in asked:
        name, fault = _ask(policy, question, known)
        if fault is None:
            chosen[name] = None
        else:
            objections.setdefault(fault.problem, Objection(fault, question.words))
        if fault is not None and fault.problem == "stalls":
            break  # it would take as long each time
    name = getattr(policy, "__name__", repr(policy))
    return PolicyVerdict(name, len(asked), tuple(sorted(chosen)), tuple(objections.values()))


def questions() -> Iterator[Question]:
    fleets = {"no engine": Fleet(), **FLEETS}
    for (where, fleet), size, most, group in product(fleets.items(), LENGTHS, MAX_TOKENS, GROUPS):
        sampling, of = Sampling(max_tokens=most), f" of group {group}" if group else ""
        request = Request(Tokens(range(size)), sampling, Mailbox("answers"), group=group)
        yield Question(f"{size} tokens{of}, {most} to be answered, on {where}", request, fleet)


def misnamed(name: object, known: Collection[str]) -> Fault | None:
    """What is wrong with a policy's answer, where something is."""
    if not isinstance(name, str):
        return Fault("malformed", f"a policy gives a strategy's name, this is {name!r:.80}")
    if name not in known:
        there = ", ".join(sorted(known))
        return Fault("names_nobody", f"there is no strategy {name[:80]!r}; there are {there}")
    return None


def _ask(policy: Policy, question: Question, known: Collection[str]) -> tuple[str, Fault | None]:
    try:
        return _answer(policy, question, known)
    except TooSlow as error:
        return "", Fault("stalls", str(error))
    except ReachesOut as error:
        return "", Fault("reaches_out", str(error))
    except MemoryError:
        return "", Fault("greedy", "out of memory")
    except Exception as error:  # whatever a user's file raises is told as its fault
        return "", Fault("unhandled", repr(error))


def _answer(policy: Policy, question: Question, known: Collection[str]) -> tuple[str, Fault | None]:
    """Raises whatever the policy raises, or an answer of its own kind that is looked at."""
    name = policy(question.request, question.fleet)
    again = policy(question.request, question.fleet)
    if name != again:
        return "", Fault("impure", f"asked twice, it said {name!r:.80} and {again!r:.80}")
    return name, misnamed(name, known)
