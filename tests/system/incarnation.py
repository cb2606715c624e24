"""One incarnation of an engine with its host: the production cores, on the fake model."""

from __future__ import annotations

from typing import Final

from actors.badge import Badge
from actors.cachenews import CacheNews
from actors.door import Door
from actors.hosting import HostCore
from bus.fleet import Role
from bus.messages import Beat
from bus.subjects import Subjects
from engine.config import EngineConfig
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from engine.fake_wire import FakeNetwork
from tests.engine.device import store_for

SUBJECTS: Final = Subjects()
SLOTS: Final = 4


class Incarnation:
    def __init__(
        self,
        network: FakeNetwork,
        name: str,
        epoch: int,
        role: Role,
        num_pages: int,
        draft_tokens: int,
        num_slots: int,
    ) -> None:
        """With a second tier of ``num_slots`` pages, where there are any."""
        card = fake_card(num_pages, max_context=128)
        runner = FakeRunner(card)
        limits = {"max_running": SLOTS, "max_batch_tokens": 24, "prefill_chunk": 7}
        config = EngineConfig(name, epoch, **limits, draft_tokens=draft_tokens)
        wire = network.wire(name, runner.memory, card.shape)
        store = store_for(runner, num_slots) if num_slots else None
        self.engine = Engine(config, runner, FakeDetokenizer, wire, lambda: 0.0, store=store)
        self.host = HostCore(name, epoch, self.engine, SUBJECTS, Door(SLOTS, self.engine.holds))
        self.news = CacheNews(name, epoch, self.engine, SUBJECTS)
        self.badge = Badge(name, epoch, "fake", role, card.shape.page_size, 128, "c", SLOTS)
        self.silent_until_s = 0.0

    def beat(self) -> Beat:
        return self.badge.beat(self.engine.statistics(), self.news.sequence)
