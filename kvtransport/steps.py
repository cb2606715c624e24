"""What one transfer of the sender does next: what is written when, and how we stop.

```
          Opened            finish          flushed            Done
opening ---------> writing ---------> finishing ---------> completing ---------> Delivered
   |                  |                   |                     |
   | refused,         | aborted, revoked, stalled               | refused, no answer
   | aborted          +---> stopping <----+                     |
   v                            | flushed: Ceased               v
SendFailed <--------------------+----------------------- SendFailed
```

Pages that exist already may be lent: then the receiver reads them.

```
          lend, Opened            Taken: Agreed
opening, writing ------> lending --------------> Delivered
                            | aborted, no word: Recall     Refuse
                            +-----------------> recalling -------> SendFailed
```

With checksums, Complete waits for ours, and so does the answer to Taken, which has the reader's.

A message may be lost with the connection, which then is told, or by itself: what waits for an
answer waits for a lease at most, and then ends or, where ending is not safe, asks again.

While a flush is under way, and until a reader has answered, our pages may still be read: no ending
is told before that is over or the connection is gone.

Every step changes the transfer and returns the effects. `State.ENDED` is where they all end.
"""

from __future__ import annotations

import itertools

from bus.messages import Reason
from bus.transfers import SendFailed

from .effects import Drop, Effect, Flush, Put, Send, Sum, Tell
from .granted import CORRUPT
from .layout import Offsets, Runs, compress
from .outgoing import REFUSABLE, Home, Outgoing, State, Write
from .protocol import Agreed, Ceased, Complete, Lend, Recall, Refuse, Renew, Revoke, Taken
from .relaying import cast_for

# --- what the engine wants ----------------------------------------------------------------------


def write(transfer: Outgoing, home: Home, wanted: Write, now: float) -> list[Effect]:
    if transfer.wants_finish:
        return abort(transfer, "written to after it was finished", now)
    try:
        runs = transfer.runs(home.shape, wanted)
    except ValueError as error:
        return abort(transfer, str(error), now)
    transfer.begun_at = now if transfer.begun_at is None else transfer.begun_at
    transfer.progressed_at = now
    if transfer.state is State.OPENING:
        transfer.waiting.append(runs)
        return []
    return [_put(transfer, home, runs)]


def finish(transfer: Outgoing, home: Home, now: float) -> list[Effect]:
    if transfer.missing.any():
        lacking = f"{int(transfer.missing.sum())} of {transfer.missing.size}"
        return abort(transfer, f"finished with {lacking} pages not written", now)
    transfer.wants_finish, transfer.finished_at = True, now
    return [] if transfer.state is State.OPENING else _flush(transfer, home)


def lend(transfer: Outgoing, home: Home, pages: Offsets, now: float) -> list[Effect]:
    try:
        transfer.check_loan(home.shape, pages)
    except ValueError as error:
        return abort(transfer, str(error), now)
    if cast_for(home.shape, transfer.grant.shape):
        return _write_all(transfer, home, pages, now)  # the reader could not convert what it reads
    transfer.lent, transfer.wants_finish = pages, True
    transfer.begun_at = transfer.finished_at = transfer.progressed_at = now
    return [] if transfer.state is State.OPENING else _lend(transfer, home, pages)


def _write_all(transfer: Outgoing, home: Home, pages: Offsets, now: float) -> list[Effect]:
    layers = range(home.shape.num_layers)
    writes = [write(transfer, home, Write(layer, 0, pages), now) for layer in layers]
    return [*itertools.chain(*writes), *finish(transfer, home, now)]


def abort(transfer: Outgoing, reason: str, now: float) -> list[Effect]:
    match transfer.state:
        case State.OPENING:
            return cease(transfer, reason)
        case State.WRITING | State.FINISHING:
            transfer.state, transfer.reason = State.STOPPING, reason
            transfer.progressed_at = now
            flush = Flush(transfer.serial, transfer.peer, transfer.grant.memory)
            return [Drop(transfer.serial), flush]
        case State.LENDING:
            transfer.reason = reason
            return _recall(transfer, now)
        case _:
            return []  # too late to stop, or stopping already


# --- what happens -------------------------------------------------------------------------------


def opened(transfer: Outgoing, home: Home, now: float) -> list[Effect]:
    if transfer.state is not State.OPENING:
        return []
    transfer.state, transfer.progressed_at, transfer.renewed_at = State.WRITING, now, now
    puts: list[Effect] = [_put(transfer, home, runs) for runs in transfer.waiting]
    transfer.waiting.clear()
    if transfer.lent is not None:
        return _lend(transfer, home, transfer.lent)
    return [*puts, *(_flush(transfer, home) if transfer.wants_finish else [])]


def flushed(transfer: Outgoing, home: Home, lane: str, now: float) -> list[Effect]:
    if transfer.state is State.STOPPING:
        return cease(transfer, transfer.reason)
    if transfer.state is not State.FINISHING:
        return []
    transfer.landed, transfer.lane = True, lane
    return _complete(transfer, home, now)


def summed(transfer: Outgoing, home: Home, sums: bytes, now: float) -> list[Effect]:
    transfer.sums = sums
    if transfer.taken:
        return taken(transfer, home, transfer.taken, now)
    return _complete(transfer, home, now) if transfer.state is State.FINISHING else []


def _complete(transfer: Outgoing, home: Home, now: float) -> list[Effect]:
    """Once everything has landed and, where they are asked for, the sums are known."""
    if not transfer.landed or (_checked(transfer, home) and not transfer.sums):
        return []
    transfer.state, transfer.progressed_at = State.COMPLETING, now
    return [Send(transfer.peer, Complete(*transfer.ids, transfer.sums))]


def done(transfer: Outgoing, now: float) -> list[Effect]:
    return _delivered(transfer, now) if transfer.state is State.COMPLETING else []


def taken(transfer: Outgoing, home: Home, message: Taken, now: float) -> list[Effect]:
    if transfer.state not in (State.LENDING, State.RECALLING):
        return []
    if _checked(transfer, home) and not transfer.sums:
        transfer.taken = message
        return []
    if transfer.sums != message.sums:
        return cease(transfer, CORRUPT, "corrupt")
    transfer.num_bytes = transfer.missing.size * home.shape.page_bytes
    transfer.num_runs, transfer.lane = message.num_runs, message.lane
    transfer.write_s = message.read_s
    return [Send(transfer.peer, Agreed(*transfer.ids)), *_delivered(transfer, now)]


def refused(transfer: Outgoing, message: Refuse) -> list[Effect]:
    if transfer.state in REFUSABLE:
        kind: Reason = "corrupt" if message.reason == "corrupt" else "transfer_failed"
        return fail(transfer, f"{message.reason}: {message.message}", kind)
    return []  # answers an earlier copy of a message; what counts is on its way


def revoked(transfer: Outgoing, message: Revoke, now: float) -> list[Effect]:
    reason = f"revoked by the receiver: {message.reason}"
    if transfer.state in (State.COMPLETING, State.LENDING, State.RECALLING):
        return cease(transfer, reason)  # a receiver that reads would have refused
    return abort(transfer, reason, now)


def due(transfer: Outgoing, now: float) -> list[Effect]:
    if now >= transfer.stall:
        return _stalled(transfer, now)
    if now >= transfer.renewal:
        transfer.renewed_at = now
        return [Send(transfer.peer, Renew(*transfer.ids))]
    return []


def _stalled(transfer: Outgoing, now: float) -> list[Effect]:
    waited = f"nothing happened for {transfer.grant.lease_s:g} s"
    if transfer.state is State.COMPLETING:
        return fail(transfer, f"no acknowledgement: {waited}")
    if transfer.state is State.RECALLING:
        return _recall(transfer, now)
    return abort(transfer, waited, now)


# --- steps --------------------------------------------------------------------------------------


def _put(transfer: Outgoing, home: Home, runs: Runs) -> Effect:
    transfer.num_bytes += runs.total_bytes()
    transfer.num_runs += len(runs)
    cast = cast_for(home.shape, transfer.grant.shape)
    return Put(transfer.serial, transfer.peer, transfer.grant.memory, runs, cast)


def _flush(transfer: Outgoing, home: Home) -> list[Effect]:
    transfer.state = State.FINISHING
    flush = Flush(transfer.serial, transfer.peer, transfer.grant.memory)
    return [flush, *_sum(transfer, home, transfer.pages)]


def _sum(transfer: Outgoing, home: Home, pages: Offsets) -> list[Effect]:
    if not _checked(transfer, home):
        return []
    return [Sum(transfer.serial, pages, transfer.num_tokens, transfer.grant.shape)]


def _checked(transfer: Outgoing, home: Home) -> bool:
    return home.checked or transfer.grant.checked


def _lend(transfer: Outgoing, home: Home, pages: Offsets) -> list[Effect]:
    transfer.state = State.LENDING
    checked = _checked(transfer, home)
    runs = tuple(compress(pages))
    message = Lend(*transfer.ids, runs, home.shape, home.memory, checked)
    return [Send(transfer.peer, message), *_sum(transfer, home, pages)]


def _recall(transfer: Outgoing, now: float) -> list[Effect]:
    """Ask for our pages; again after each lease without an answer."""
    transfer.state, transfer.progressed_at = State.RECALLING, now
    return [Send(transfer.peer, Recall(*transfer.ids, transfer.reason))]


# --- endings ------------------------------------------------------------------------------------


def cease(transfer: Outgoing, reason: str, kind: Reason = "transfer_failed") -> list[Effect]:
    ceased = Ceased(*transfer.ids, reason, kind)
    return [Send(transfer.peer, ceased), *fail(transfer, reason, kind)]


def fail(transfer: Outgoing, reason: str, kind: Reason = "transfer_failed") -> list[Effect]:
    transfer.state = State.ENDED
    return [Drop(transfer.serial), Tell(SendFailed(*transfer.name, reason, kind))]


def _delivered(transfer: Outgoing, now: float) -> list[Effect]:
    transfer.state = State.ENDED
    return [Tell(transfer.delivered(now))]
