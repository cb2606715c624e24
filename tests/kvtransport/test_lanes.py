from __future__ import annotations

import ctypes.util
import sys

import pytest

from kvtransport.lanes import copying_lane, shared_lane
from kvtransport.library import UcxUnavailable, load
from kvtransport.ucx import UcxTransport

MAPS = """\
7f0000000000-7f0000010000 rw-s 00000000 00:01 8   /SYSV00000000 (deleted)
7f0000010000-7f0000020000 rw-s 00000000 00:1b 12  /dev/shm/ucx_shm_posix_6c855e3e (deleted)
7f0000020000-7f0000030000 rw-s 00000000 00:1b 12  /memfd:somebody (deleted)
""".splitlines()


@pytest.mark.parametrize(
    ("address", "lane"),
    [
        (0x7F0000000000, "sysv"),
        (0x7F000000FFFF, "sysv"),
        (0x7F0000010000, "posix"),
        (0x7F0000020000, "shm"),
        (0x1000, "shm"),
    ],
)
def test_the_mapping_tells_the_kind_of_shared_memory(address: int, lane: str) -> None:
    assert shared_lane(MAPS, address) == lane


@pytest.mark.parametrize(
    ("transports", "lane"),
    [
        (["sysv", "posix", "cma"], "cma"),
        (["sysv", "posix", "tcp", "tcp"], "tcp"),
        (["tcp", "rc_mlx5"], "rc_mlx5"),
        (["self"], "tcp"),
    ],
)
def test_memory_that_is_not_shared_takes_the_best_lane_left(
    transports: list[str], lane: str
) -> None:
    assert copying_lane(transports) == lane


def test_a_library_that_is_not_there_is_told_with_the_cure() -> None:
    with pytest.raises(UcxUnavailable, match="Install the extra 'ucx'") as missing:
        UcxTransport("/nowhere/libucp.so.0")

    assert len(missing.value.tried) == 1
    assert "/nowhere/libucp.so.0" in missing.value.tried[0]


def test_a_library_that_is_not_ucx_is_told() -> None:
    other = ctypes.util.find_library("c")

    with pytest.raises(UcxUnavailable, match="undefined symbol"):
        load(other)


def test_an_unknown_setting_is_told() -> None:
    with pytest.raises(UcxUnavailable, match="NO_SUCH_THING"):
        UcxTransport(settings={"NO_SUCH_THING": "1"})


def test_a_pool_that_the_machine_cannot_hold_is_refused_at_once() -> None:
    transport = UcxTransport()

    with pytest.raises(UcxUnavailable, match="a pool of 17592186044416 bytes on a machine of"):
        transport.allocate(2**44)

    transport.close()


def test_the_package_of_the_library_is_not_imported() -> None:
    UcxTransport().close()

    assert "libucx" not in sys.modules


def test_the_library_in_use_can_be_shown() -> None:
    transport = UcxTransport()
    transport.close()

    assert "libucp.so.0" in transport.library
