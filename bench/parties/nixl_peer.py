"""NIXL's side of `bench.transport`: runs in an environment of its own and imports nothing of ours.

One JSON line in, one out. The first gives the size of the pools; each other one a case, whose runs
both benchmarks make in the same way. The receiver polls only while a write is timed, so that it
takes no processor from others in between.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

ASKING, ANSWER = b"complete", b"seen"


def agent(name: str, num_bytes: int, fill: int) -> tuple[Any, Any]:
    """An agent over UCX without a thread of its own, and the pool that it registered."""
    from nixl_cu12._api import (  # pyright: ignore[reportMissingImports]
        nixl_agent,
        nixl_agent_config,
    )

    made = nixl_agent(name, nixl_agent_config(enable_prog_thread=False, backends=["UCX"]))
    pool = np.full(num_bytes, fill, np.uint8)
    made.register_memory([(pool.ctypes.data, num_bytes, 0, "")], "DRAM")
    return made, pool


def await_notice(ours: Any) -> None:
    while not ours.get_new_notifs():
        pass


def receive(pipe: Connection, num_bytes: int) -> None:
    """Told to expect a write, poll until it is complete, and say so to the writer."""
    keep_to(1)
    ours, pool = agent("receiver", num_bytes, 0)
    pipe.send((ours.get_agent_metadata(), pool.ctypes.data))
    writer = ours.add_remote_agent(pipe.recv())
    try:
        while pipe.recv() is not None:
            pipe.send("polling")
            await_notice(ours)
            ours.send_notif(writer, ANSWER)
    except EOFError:
        return


def keep_to(number: int) -> None:
    """One processor each: two who poll must not share one while another is idle."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[number % len(allowed)]})


class Writer:
    def __init__(self, num_bytes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=receive, args=(theirs, num_bytes))
        self._process.start()
        theirs.close()
        keep_to(0)
        self._agent, self._pool = agent("writer", num_bytes, 1)
        metadata, self._remote = self._pipe.recv()
        self._peer = self._agent.add_remote_agent(metadata)
        self._pipe.send(self._agent.get_agent_metadata())
        self._handles: dict[tuple[int, int], Any] = {}

    def write_s(self, num_bytes: int, run_bytes: int) -> float:
        """Seconds from posting a prepared write to the receiver's answer that it is complete."""
        handle = self._handle(num_bytes, run_bytes)
        self._pipe.send("expect")
        self._pipe.recv()
        begun = time.perf_counter()
        state = self._agent.transfer(handle, ASKING)
        while state == "PROC":
            state = self._agent.check_xfer_state(handle)
        if state != "DONE":
            raise RuntimeError(f"NIXL's write ended in {state}")
        await_notice(self._agent)
        return time.perf_counter() - begun

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join()

    def _handle(self, num_bytes: int, run_bytes: int) -> Any:
        case = num_bytes, run_bytes
        if case not in self._handles:
            local, remote = places(num_bytes, run_bytes)
            ours = descriptors(local + self._pool.ctypes.data, run_bytes)
            theirs = descriptors(remote + self._remote, run_bytes)
            sides = (
                self._agent.prep_xfer_dlist("NIXL_INIT_AGENT", ours, "DRAM"),
                self._agent.prep_xfer_dlist(self._peer, theirs, "DRAM"),
            )
            every = np.arange(len(local), dtype=np.int32)
            self._handles[case] = self._agent.make_prepped_xfer(
                "WRITE", sides[0], every, sides[1], every, ASKING
            )
        return self._handles[case]


def places(num_bytes: int, run_bytes: int) -> tuple[Any, Any]:
    """As `bench.transport.scattered`."""
    random = np.random.default_rng(num_bytes + run_bytes)
    count = num_bytes // run_bytes
    return random.permutation(count) * run_bytes, random.permutation(count) * run_bytes


def descriptors(addresses: Any, run_bytes: int) -> Any:
    rows = np.zeros((len(addresses), 3), np.uint64)
    rows[:, 0], rows[:, 1] = addresses, run_bytes
    return rows


def main() -> None:
    """NIXL logs to standard output: the answers get a descriptor of their own."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    writer = Writer(json.loads(sys.stdin.readline())["pool_bytes"])
    print(json.dumps({"version": version("nixl-cu12")}), file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        seconds = writer.write_s(case["num_bytes"], case["run_bytes"])
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)
    writer.close()


if __name__ == "__main__":
    main()
