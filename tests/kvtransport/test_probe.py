"""The lane between two processes of this machine is tried, not asked."""

from __future__ import annotations

import pytest

from kvtransport.library import UcxUnavailable
from kvtransport.probe import ANOTHER_MACHINE, ProbeFailed, probe

from .worlds import kv_threads


def test_two_processes_here_share_memory() -> None:
    found = probe()

    assert found.lane in ("sysv", "posix", "cma")
    assert min(found.gb_per_s, found.copy_gb_per_s) > 0
    assert "libucp" in found.library
    assert kv_threads() == []


def test_what_two_machines_would_find_is_found_without_another_machine() -> None:
    found = probe(settings=ANOTHER_MACHINE)

    assert found.lane not in ("sysv", "posix", "cma")
    assert found.gb_per_s > 0


def test_a_process_that_says_nothing_in_time_is_ended() -> None:
    with pytest.raises(ProbeFailed, match=r"said nothing within 0\.001 s"):
        probe(patience_s=0.001)

    assert kv_threads() == []


def test_without_a_library_it_says_what_was_tried() -> None:
    with pytest.raises(UcxUnavailable, match=r"/nowhere/libucp\.so\.0"):
        probe("/nowhere/libucp.so.0")
