"""What others did on the machine is everything that neither we nor our children did."""

from __future__ import annotations

import subprocess
import sys

from bench.machine import our_cpu_s

BURN = """
import time
while time.process_time() < 0.3: pass
print("done", flush=True)
input()
"""


def test_a_child_counts_as_ours_while_it_lives_and_after_it_has_ended() -> None:
    before_s = our_cpu_s()
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()

        living_s = our_cpu_s() - before_s
        child.communicate(b"\n")

    assert living_s >= 0.25
    assert our_cpu_s() - before_s >= 0.25
