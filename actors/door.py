"""Who may begin something at an engine that works for several routers.

One router counts exactly what it has at an engine and never begins more than there are slots. Of
several none knows what the others have begun since the last heartbeat, so that the engine counts:

```
slots   |<- flows of one router ->|<- of another ->|<- free ->|
                                                     a flow that is new here comes in, or is busy
```
"""

from __future__ import annotations

from collections.abc import Callable

from bus.messages import Order, PrepRecv, Refused, RemoteSend, StartGenerate


class Door:
    """Pure. ``holds`` says whether a flow has something at the engine."""

    def __init__(self, slots: int, holds: Callable[[str], bool]) -> None:
        self._slots, self._holds = slots, holds
        self._routers: dict[str, str] = {}
        """By flow: whose it is."""

    def turned_away(self, order: Order) -> Refused | None:
        """Why a flow may not begin here; None where it may, and is counted from now on.

        A flow in a later attempt always may: it may be half answered, and waits inside. So what one
        router has begun alone is never refused, nor anything twice.
        """
        if not isinstance(order.command, PrepRecv | RemoteSend | StartGenerate):
            return None
        if order.attempt == 1 and not self._holds(order.flow) and self._is_full(order.router):
            verb = type(order.command).__name__
            message = f"all {self._slots} slots are taken by flows of several routers"
            return Refused(verb, "busy", message)
        self._routers[order.flow] = order.router
        return None

    def _is_full(self, router: str) -> bool:
        if len(self._routers) < self._slots:
            return False
        self._routers = {f: r for f, r in self._routers.items() if self._holds(f)}
        others = any(r != router for r in self._routers.values())
        return others and len(self._routers) >= self._slots
