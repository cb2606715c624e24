"""Runs a program that dies with the process that started it, also when that one is killed.

Run as a script: ``python tether.py PARENT_PID PROGRAM ARGUMENT...`` becomes PROGRAM, after asking
Linux to kill it with its parent. A script of its own rather than a ``preexec_fn``, which may
deadlock in a process with threads.

Linux counts the *thread* that forked as the parent: start a tethered program from one that lives as
long as the program shall, such as the main thread. Where there is no Linux, nothing is tethered.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tethered(command: Sequence[str]) -> list[str]:
    """``command`` such that the process that runs it dies with this one."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _become(parent_pid: int, command: list[str]) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit("the parent was gone before the tether was tied")
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
