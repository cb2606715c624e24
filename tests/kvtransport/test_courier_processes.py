"""Two couriers over UCX in two processes: real memory, real deaths."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bus.transfers import Arrived, Delivered, Fenced, PoolShape, SendFailed

from .couriers import Engine, EngineProcess, ucx_engine
from .worlds import kv_threads

SHAPE = PoolShape(
    num_layers=4, num_pages=4096, page_size=16, page_bytes=2048, fingerprint="processes"
)
SCATTERED = [page for page in range(4096) if page % 3][:2500]
REVERSED_BLOCKS = [b * 10 + i for b in reversed(range(250)) for i in range(10)]


on_every_lane = pytest.mark.parametrize(
    "settings", [{}, {"TLS": "tcp"}], ids=["shared", "tcp"], indirect=True
)


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of UCX; its own choice, which is shared memory, where a test does not say."""
    return getattr(request, "param", {})


@pytest.fixture
def here(settings: dict[str, str]) -> Iterator[Engine]:
    engine = ucx_engine("here", SHAPE, settings)
    yield engine
    engine.close()
    assert kv_threads() == []


@pytest.fixture
def there(settings: dict[str, str]) -> Iterator[EngineProcess]:
    process = EngineProcess("there", SHAPE, settings)
    yield process
    process.close()


def test_thousands_of_pages_arrive_as_they_were(here: Engine, there: EngineProcess) -> None:
    there.fill(SCATTERED, 7)
    grant = here.grant("f1", REVERSED_BLOCKS)

    there.send("f1", grant, SCATTERED)

    assert here.event() == Arrived("f1", 1, num_bytes=2500 * 4 * 2048)
    delivered = there.event()
    assert isinstance(delivered, Delivered)
    assert delivered.lane in ("sysv", "posix")
    assert here.digest(REVERSED_BLOCKS) == there.digest(SCATTERED)


def test_a_flush_that_lands_at_once_is_noticed_without_another_event() -> None:
    """Nothing but the transfer may wake the thread: keepalive comes after the test's patience."""
    large = PoolShape(
        num_layers=1, num_pages=96, page_size=16, page_bytes=2**20, fingerprint="large"
    )
    settings = {"KEEPALIVE_INTERVAL": "100s"}
    there, here = EngineProcess("there", large, settings), ucx_engine("here", large, settings)
    pages = list(range(96))

    for flow in ("f1", "f2"):
        here.send(flow, there.grant(flow, pages), pages)
        assert isinstance(here.event(), Delivered)

    there.close()
    here.close()


def test_one_context_is_read_by_many_receivers(here: Engine, there: EngineProcess) -> None:
    here.fill(SCATTERED, 7)
    others = [EngineProcess(f"reader-{number}", SHAPE) for number in range(2)]
    readers = [there, *others]

    for number, reader in enumerate(readers):
        grant = reader.grant(f"f{number}", REVERSED_BLOCKS)
        here.lend(f"f{number}", grant, SCATTERED)

    arrived = [reader.event() for reader in readers]
    delivered = [here.event() for _ in readers]
    assert [type(event) for event in arrived] == [Arrived] * 3
    assert all(isinstance(event, Delivered) for event in delivered)
    assert {reader.digest(REVERSED_BLOCKS) for reader in readers} == {here.digest(SCATTERED)}
    assert here.transport.statistics().put_bytes == 0
    for other in others:
        other.close()


@on_every_lane
def test_a_lender_killed_while_it_is_read_ends_the_grant(
    here: Engine, there: EngineProcess
) -> None:
    there.fill(SCATTERED, 7)
    there.lend("f1", here.grant("f1", REVERSED_BLOCKS), SCATTERED)
    assert isinstance(here.event(), Arrived)
    there.begin("lend", "f2", here.grant("f2", REVERSED_BLOCKS), SCATTERED)

    there.kill()
    here.revoke("f2")

    assert isinstance(here.event(), Fenced | Arrived)
    assert here.courier.statistics().transport.failed == 0


@on_every_lane
def test_a_sender_killed_while_it_writes_fences_the_grant(
    here: Engine, there: EngineProcess
) -> None:
    grant = here.grant("f1", REVERSED_BLOCKS)
    there.fill([0], 1)
    there.begin("pester", "f1", grant, [0] * 2500, 60.0)
    target = here.page(0, REVERSED_BLOCKS[0])
    deadline = time.monotonic() + 20
    while not any(target) and time.monotonic() < deadline:
        time.sleep(0)

    there.kill()

    assert here.event() == Fenced("f1", 1, "the sender was lost")


@on_every_lane
def test_a_receiver_killed_while_we_write_fails_the_transfer(
    here: Engine, there: EngineProcess
) -> None:
    grant = there.grant("f1", REVERSED_BLOCKS)
    here.open("f1", grant, 2500)
    here.write("f1", 0, SCATTERED)
    there.kill()
    for _ in range(20):
        here.write("f1", 1, SCATTERED)

    assert here.event() == SendFailed("f1", 1, "the receiver was lost")


@on_every_lane
def test_after_the_fence_nothing_of_a_busy_writer_lands(here: Engine, there: EngineProcess) -> None:
    there.fill([0], 1)
    grant = here.grant("f1", REVERSED_BLOCKS)
    there.begin("pester", "f1", grant, [0] * 2500, 1.0)
    target = here.page(0, REVERSED_BLOCKS[0])
    deadline = time.monotonic() + 20
    while not any(target) and time.monotonic() < deadline:
        time.sleep(0)

    here.revoke("f1")
    fenced = here.event()
    here.courier.buffer[:] = b"\0" * SHAPE.num_bytes
    there.end()

    assert fenced == Fenced("f1", 1, "revoked")
    assert not any(here.digest([page]) != here.digest([0]) for page in REVERSED_BLOCKS[:50])
    assert isinstance(there.event(), SendFailed)
    assert bytes(target) == bytes(SHAPE.page_bytes)


@on_every_lane
def test_a_transfer_to_a_restarted_engine_arrives(
    here: Engine, there: EngineProcess, settings: dict[str, str]
) -> None:
    here.send("f1", there.grant("f1", [1, 2, 3]), [4, 5, 6])
    assert isinstance(here.event(), Delivered)
    there.kill()

    restarted = EngineProcess("there", SHAPE, settings)
    here.send("f2", restarted.grant("f2", [1, 2, 3]), [4, 5, 6])

    assert isinstance(here.event(), Delivered)
    restarted.close()
