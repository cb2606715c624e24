"""What happened to a flow is kept, found by its id, and played again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from actors.effects import Keep
from actors.recorder import StoreRecorder
from actors.recording import MAX_STEPS, RecordedStep, Recording
from actors.recordings import SPARE, NoRecording, RecordingError, RecordingStore
from actors.replay import lines, replay
from actors.routing import RouterConfig, RouterCore
from bus.fleet import Engine, Fleet, NoEngine
from bus.messages import (
    Event,
    Finished,
    Mailbox,
    Prepared,
    PrepRecv,
    Release,
    Request,
    Sampling,
    Sent,
    Submitted,
    Usage,
)
from bus.tokens import Tokens
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import Idle, State, Step, Strategy
from tests.actors.test_routing import FLOW, Router

PROMPT = Tokens(range(40))
FLEET = Fleet((Engine("p0", "prefill", epoch=1), Engine("d0", "decode", epoch=1)))
REQUEST = Request(PROMPT, Sampling(), Mailbox("inbox"))
EVENTS: tuple[Event, ...] = (
    Submitted(REQUEST, FLEET),
    Prepared(b"grant", 16),
    Sent(10, 0.1, "shm"),
    Finished("stop", Usage()),
)


def recorded(strategy: Strategy, flow: str = FLOW, events: tuple[Event, ...] = EVENTS) -> Recording:
    state: State = Idle()
    steps = []
    for number, event in enumerate(events):
        state, commands = strategy(state, event)
        steps.append(RecordedStep(number / 10, event, type(state).__name__, tuple(commands)))
    return Recording(flow, "m", strategy.__name__, 3, 1e9, "finished", tuple(steps))


# --- the router records -------------------------------------------------------------------------


def test_a_flow_is_recorded_with_all_its_events_and_commands() -> None:
    router = Router()
    router.ask()
    router.now += 0.5
    router.answer("d0", Prepared(b"grant", 16))
    router.answer("p0", Sent(10, 0.1, "shm"))
    effects = router.answer("d0", Finished("stop", Usage()))

    [recording] = [e.recording for e in effects if isinstance(e, Keep)]

    assert (recording.flow, recording.orchestration, recording.version) == (
        FLOW,
        "disaggregated",
        0,
    )
    assert recording.outcome == "finished"
    assert recording.is_whole
    first, second = recording.steps[:2]
    assert isinstance(first.event, Submitted)
    assert first.commands == (PrepRecv("d0", PROMPT, end=39),)
    assert (second.at_s, second.event) == (0.5, Prepared(b"grant", 16))
    assert replay(recording, disaggregated).parting is None


def test_of_an_endless_flow_the_beginning_is_recorded() -> None:
    router = Router()
    router.ask("data_parallel")
    flow = router.core.flows[FLOW]
    for _ in range(MAX_STEPS + 5):
        flow.stepped(Prepared(b"", 0), [], router.now)

    assert len(flow.recording().steps) == MAX_STEPS
    assert not flow.recording().is_whole


# --- the store ----------------------------------------------------------------------------------


def test_a_recording_is_found_by_the_beginning_of_its_flow(tmp_path: Path) -> None:
    store = RecordingStore(tmp_path / "flows.db")
    one, two = recorded(disaggregated, "abc1"), recorded(disaggregated, "abc2")
    store.write([one, two])

    assert store.find("abc1") == one
    assert store.find("abc2") == two
    with pytest.raises(NoRecording, match="several begin so"):
        store.find("abc")
    with pytest.raises(NoRecording, match="none begins so"):
        store.find("x")
    store.close()


def test_the_newest_are_kept(tmp_path: Path) -> None:
    store = RecordingStore(tmp_path / "flows.db", max_flows=3)
    for number in range(5):
        store.write([recorded(disaggregated, f"flow{number}")])

    assert len(store) == 3
    assert store.find("flow4").flow == "flow4"
    with pytest.raises(NoRecording):
        store.find("flow1")
    store.close()


def test_the_oldest_are_dropped_many_at_once(tmp_path: Path) -> None:
    store = RecordingStore(tmp_path / "flows.db", max_flows=32)
    held = list[int]()
    for number in range(70):
        store.write([recorded(disaggregated, f"flow{number}")])
        held.append(len(store))

    assert max(held) == 32 + 32 // SPARE
    assert min(held[32:]) == 32
    store.close()


def test_what_was_left_behind_is_dropped_with_the_first_write(tmp_path: Path) -> None:
    before = RecordingStore(tmp_path / "flows.db", max_flows=100)
    before.write([recorded(disaggregated, f"flow{number}") for number in range(50)])
    before.close()

    store = RecordingStore(tmp_path / "flows.db", max_flows=32)
    store.write([recorded(disaggregated, "one more")])

    assert len(store) == 32
    store.close()


def test_as_many_are_kept_as_there_is_room_for(tmp_path: Path) -> None:
    store = RecordingStore(tmp_path / "flows.db", max_bytes=2000)
    for number in range(20):
        store.write([recorded(disaggregated, f"flow{number}")])

    assert 1 <= len(store) < 20
    assert store.find("flow19").flow == "flow19"
    store.close()


def test_a_prompt_that_every_command_repeats_is_stored_once(tmp_path: Path) -> None:
    prompt = Tokens(os.urandom(2000))
    events = (Submitted(Request(prompt, Sampling(), Mailbox("i")), FLEET), *EVENTS[1:])
    store = RecordingStore(tmp_path / "flows.db")

    store.write([recorded(disaggregated, events=events)])

    [(size,)] = store._connection.execute("SELECT LENGTH(body) FROM recording").fetchall()
    assert size < 0.75 * len(prompt.packed)
    store.close()


def test_others_on_the_machine_cannot_read_what_users_asked(tmp_path: Path) -> None:
    RecordingStore(tmp_path / "flows.db").close()

    assert stat.S_IMODE((tmp_path / "flows.db").stat().st_mode) == 0o600


def test_a_file_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "flows.db").write_bytes(b"no database at all" * 100)

    with pytest.raises(RecordingError, match="not a database"):
        RecordingStore(tmp_path / "flows.db")


def test_what_is_kept_is_in_the_store_when_the_recorder_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    recorder = StoreRecorder(RecordingStore(path))
    for number in range(40):
        recorder.keep(recorded(disaggregated, f"flow{number}"))

    recorder.close()
    recorder.keep(recorded(disaggregated, "late"))
    recorder.close()

    store = RecordingStore(path)
    assert len(store) == 40
    assert recorder.statistics().dropped == 1
    store.close()


# --- playing again ------------------------------------------------------------------------------


def test_the_same_strategy_goes_the_same_way() -> None:
    again = replay(recorded(disaggregated), disaggregated)

    assert again.parting is None
    assert lines(again, "disaggregated")[-1] == "disaggregated goes the same way: 4 events"


def test_another_strategy_parts_where_it_does_something_else() -> None:
    again = replay(recorded(disaggregated), data_parallel)

    assert again.parting == 0
    told = lines(again, "data_parallel")
    assert "(parts here)" in told[1]
    assert "PrepRecv(engine='d0', prompt=<40 tokens>, end=39)" in told[2]
    assert "StartGenerate(engine='d0', prompt=<40 tokens>, begin=0" in told[3]
    assert told[-1] == "data_parallel parts at event 1 of 4"


def test_a_strategy_that_raises_is_told_with_its_error() -> None:
    def faulty(state: State, event: Event) -> Step:
        if isinstance(event, Sent):
            raise ZeroDivisionError("a user's mistake")
        return disaggregated(state, event)

    again = replay(recorded(disaggregated), faulty)

    assert again.parting == 2
    assert len(again.steps) == 3
    assert any("a user's mistake" in line for line in lines(again, "faulty"))


def test_a_flow_that_found_no_engine_when_it_held_something_goes_the_same_way_again() -> None:
    def gives_up(state: State, event: Event) -> Step:
        if isinstance(event, Prepared):
            raise NoEngine("prefill")
        return disaggregated(state, event)

    router = Router()
    router.core = RouterCore(RouterConfig("r0"), {"gives_up": gives_up})
    router.beat("p0", "prefill")
    router.beat("d0", "decode")
    router.ask("gives_up")
    effects = router.answer("d0", Prepared(b"grant", 16))
    [recording] = [e.recording for e in effects if isinstance(e, Keep)]

    assert recording.steps[-1].commands == (Release("d0"),)
    assert replay(recording, gives_up).parting is None
