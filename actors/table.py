"""What everybody in a router's core looks at: the flows, the engines, and what is known of both."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from bus.fleet import Fleet

from .cache_index import CacheIndex
from .catalog import Catalog
from .claims import num_tokens
from .flow import Flow
from .history import History
from .lookout import Lookout
from .prefix_index import BothIndexes, SentIndex
from .roster import Roster
from .standing import Standing


class Table(Struct):
    router: str
    catalog: Catalog
    standing: Standing
    told: CacheIndex
    sent: SentIndex
    prefixes: BothIndexes
    """What ``told`` and ``sent`` know together."""
    flows: dict[str, Flow]
    roster: Roster
    """The engines that are alive."""
    outcomes: Counter[str]
    """Ended flows, by outcome."""
    returned: list[Flow]
    """Flows that wait again, to be put back into the queue."""
    history: History
    lookout: Lookout

    @staticmethod
    def empty(router: str, catalog: Catalog) -> Table:
        told, sent = CacheIndex(), SentIndex()
        prefixes, outcomes = BothIndexes(told, sent), Counter[str]()
        flows = dict[str, Flow]()
        return Table(
            router,
            catalog,
            Standing(),
            told,
            sent,
            prefixes,
            flows,
            Roster(),
            outcomes,
            [],
            History(),
            Lookout(router, flows),
        )

    def fleet(self, flow: Flow) -> Fleet:
        """The engines as they are now, for this flow, which remembers what they had cached."""
        found = dict[str, int]()
        for page_size in self.standing.page_sizes(flow.model):
            found.update(self.prefixes.find(flow.chain(page_size)))
        flow.cached = self.standing.cached_tokens(found)
        fleet = self.standing.fleet(flow.model, found, num_tokens(flow.request))
        fleet = self.standing.having(flow.request.adapter, fleet)
        named = [*flow.claims, flow.request.engine]
        return self.standing.kinds(flow.model).kin(fleet, named, flow.request.prompt)
