"""Strategies with one mistake each, one for every kind of fault that the check knows."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

HEAD: Final = """
from msgspec import Struct
from bus.messages import *
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import *
from orchestrations.migrate_context import migrate_context

def planted(state: {states}, event: Event) -> Step:
    match state, event:
{cases}
    return {rest}(state, event)
"""


class Plant(Struct, frozen=True):
    """A file's text, and what the check must find in it."""

    problem: str
    text: str
    message: str = ""
    """A part of what it must say."""


def plant(
    problem: str, cases: str, message: str = "", rest: str = "disaggregated", before: str = ""
) -> Plant:
    """A strategy that is sound but for its ``cases``, which are indented like a body."""
    states = "State | Own" if "class Own" in before else "State"
    text = HEAD.format(states=states, cases=cases.strip("\n"), rest=rest)
    return Plant(problem, text.replace("def planted", f"{before}\ndef planted"), message)


PLANTED: Final[dict[str, Plant]] = {
    "raises on an answer": plant(
        "unhandled",
        "        case Sending(), Sent(): raise KeyError('job')",
        "KeyError",
    ),
    "returns no step": plant(
        "malformed",
        "        case Generating(), Finished(): return Done('finished')",
    ),
    "keeps a count between calls": plant(
        "impure",
        "        case Generating(), Cancelled():\n"
        "            COUNT.append(1)\n"
        "            return Done('cancelled', str(len(COUNT))), [Release(state.job.decode)]",
        before="COUNT = []",
    ),
    "forgets the prefiller when the user goes": plant(
        "leak",
        "        case Sending(job), Cancelled():\n"
        "            return Done('cancelled'), [Release(job.decode)]",
        "p0 (RemoteSend)",
    ),
    "waits when nobody owes it anything": plant(
        "stuck",
        "        case Sending(job), EngineLost(lost) if lost == job.decode: return state, []",
    ),
    "does not hear the user go": plant(
        "ignored", "        case Generating(), Cancelled(): return state, []"
    ),
    "does not hear the time run out": plant(
        "ignored", "        case Preparing(), TimedOut(): return state, []", "time has run out"
    ),
    "goes on with another router's flow": plant(
        "ignored", "        case Generating(), Superseded(): return state, []", "another router"
    ),
    "releases another router's flow": plant(
        "meddles",
        "        case Generating(job), Superseded():\n"
        "            return Done('superseded'), job.release()",
    ),
    "releases the engine that was lost": plant(
        "dead_engine",
        "        case Preparing(job), EngineLost(lost) if lost in job.engines:\n"
        "            return Done('engine_lost'), job.release()",
    ),
    "starts a second engine beside the first": plant(
        "starts_twice",
        "        case Idle(), Submitted(request, fleet) if len(fleet.engines) > 1:\n"
        "            a, b = fleet.engines[:2]\n"
        "            state, one = generate(Job(request, a.name, b.name))\n"
        "            return Generating(Job(request, a.name, b.name)), "
        "[*one, *generate(Job(request, b.name))[1]]",
    ),
    "says the same again instead of trying anew": plant(
        "repeats",
        "        case Preparing(job), Refused('PrepRecv', 'busy'): return prepare(job)",
    ),
    "has a corrupt context sent once more with the same grant": plant(
        "repeats",
        "        case Sending(job), Refused('RemoteSend', 'corrupt'):\n"
        "            return state, [RemoteSend(job.prefill, job.prompt, b'spent', 0, job.split)]",
        "Refused(RemoteSend, corrupt)",
    ),
    "keeps what a corrupt context was to be moved from": plant(
        "leak",
        "        case Sending(job), Refused('Commit', 'corrupt'):\n"
        "            return Done('refused'), []",
        "Refused(Commit, corrupt)",
        rest="migrate_context",
    ),
    "begins outside of the prompt": plant(
        "bad_command",
        "        case Idle(), Submitted(request, fleet):\n"
        "            return generate(Job(request, fleet.least_loaded(), split=999))",
        "the prompt has",
    ),
    "tells an engine that it has released": plant(
        "bad_command",
        "        case Preparing(job), Refused('PrepRecv'):\n"
        "            return Generating(job), [*job.release(), *generate(job)[1]]",
        "which was released",
    ),
    "sends with a grant that is not there": plant(
        "bad_command",
        "        case Preparing(job), Prepared(_, matched) if matched < job.split:\n"
        "            return send(job, b'mine', matched)",
        "grant",
    ),
    "loses the tokens so far": plant(
        "wrong_answer",
        "        case Generating(job), EngineLost(lost, fleet, answered) if "
        "fleet.engines and lost == job.decode:\n"
        "            request = job.request.going_on(answered[1:])\n"
        "            after, more = data_parallel(Idle(), Submitted(request, fleet))\n"
        "            return after, [Renew(), *more]",
        "not the answer so far",
        rest="data_parallel",
    ),
    "takes the tokens so far for the prompt": plant(
        "wrong_answer",
        "        case Generating(job), EngineLost(lost, fleet, answered) if "
        "fleet.engines and lost == job.decode:\n"
        "            request = replace(job.request, prompt=job.prompt + answered)\n"
        "            after, more = data_parallel(Idle(), Submitted(request, fleet))\n"
        "            return after, [Renew(), *more]",
        "not for the user's prompt",
        rest="data_parallel",
    ),
    "has a state that cannot be stored": plant(
        "not_bytes",
        "        case Generating(job), Directed(): return Own(frozenset([job])), []\n"
        "        case Own(), _: return common(Generating(*state.jobs), event)",
        before="class Own(Struct, frozen=True):\n    jobs: frozenset\n",
    ),
    "asks the same again for ever": plant(
        "endless",
        "        case Idle(), Submitted(request, fleet):\n"
        "            job = Job(request, fleet.least_loaded())\n"
        "            return Preparing(job), [Query(job.decode, job.prompt)]\n"
        "        case Preparing(job), Matched(): return state, [Query(job.decode, job.prompt)]",
    ),
    "tries anew without a limit": plant(
        "endless",
        "        case Preparing(job), Refused('PrepRecv'):\n"
        "            return state, [*job.release(), Renew(), *prepare(job)[1]]",
    ),
    "counts its tries without a limit": plant(
        "too_many_worlds",
        "        case Generating(job), TimedOut():\n"
        "            return Generating(replace(job, split=job.split + 1)), []",
    ),
    "serves nobody": plant(
        "serves_nobody",
        "        case Idle(), Submitted(_, fleet): raise NoEngine('nobody')",
        before="from bus.fleet import NoEngine",
    ),
    "thinks for ever": plant(
        "stalls",
        "        case Generating(), Finished():\n            while True: pass",
        "no answer after",
    ),
    "wants all memory": plant(
        "greedy",
        "        case Generating(), Finished():\n"
        "            return Done('finished', 'x' * (1 << 40)), []",
    ),
    "opens a file by a way round": plant(
        "reaches_out",
        "        case Generating(), Finished():\n"
        "            inside = operator.attrgetter('__globals__')(common)['__builtins__']\n"
        "            inside['open']('/etc/passwd')",
        "open of '/etc/passwd'",
        before="import operator",
    ),
    "opens a socket by a way round": plant(
        "reaches_out",
        "        case Generating(), Finished():\n"
        "            inside = operator.attrgetter('__globals__')(common)['__builtins__']\n"
        "            inside['__import__']('_socket').socket()",
        before="import operator",
    ),
}

REFUSED: Final[dict[str, tuple[str, str]]] = {
    "a clock": ("import time\ndef planted(state, event): ...", "may not import time"),
    "a socket": ("from socket import socket\ndef planted(state, event): ...", "import socket"),
    "a file": ("def planted(state, event): open('x')", "open is not allowed"),
    "a global": (
        "n = 0\ndef planted(state, event):\n    global n\n",
        "carry n in the state",
    ),
    "another function": ("def other(state, event): ...", "must define planted(state, event)"),
    "no Python": ("def planted(state, event:", "syntax error"),
    "a loop while it is loaded": ("while True: pass\ndef planted(state, event): ...", "while it"),
    "an error while it is loaded": ("1 / 0\ndef planted(state, event): ...", "ZeroDivision"),
}
"""Files that are refused before anything of them is walked, and what is said of them."""
