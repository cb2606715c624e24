"""A whole system in one thread, without a broker and a clock: what happens next is drawn by a seed.

Router, hosts and engines are the production cores; KV moves on fake wires. What one of them says to
another comes in order, and that is all that is sure: anything may be late, an order may come twice,
users leave, operators move flows, engines fall silent or die, and come back with nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from actors.effects import Effect, Publish, Send, Withdraw
from actors.inputs import Asked, RouterInput, Ticked, Undelivered, Wished, Withdrawn
from actors.routing import RouterConfig, RouterCore
from bus.codec import decode, encode
from bus.fleet import Role
from bus.messages import (
    Beat,
    CacheChanged,
    Mailbox,
    Order,
    Progress,
    Report,
    Request,
    Sampling,
)
from bus.public import Batch, Rejected, Reply
from bus.subjects import last
from bus.tokens import Tokens
from engine.fake_wire import FakeNetwork
from orchestrations.registry import strategies

from .incarnation import SUBJECTS, Incarnation
from .told import read

ROUTER, USERS, BROKER = "r0", "users", "broker"
TICK_S: Final = 0.25
SILENT_S: Final = 3.0
REQUESTS: Final = 16

Letter: TypeAlias = Order | Publish | Undelivered


class Chances(Struct, frozen=True):
    """Of a move to be one of these."""

    death: float = 0.0
    silence: float = 0.0
    leave: float = 0.0
    direct: float = 0.0
    repeat: float = 0.0
    """Of an order to come twice."""
    break_off: float = 0.0
    """Of what may happen on the wires, a transfer that fails or a lease that runs out."""
    hurry: float = 0.0
    """Of a request to have little time."""


class History:
    def __init__(
        self,
        seed: int,
        roles: Mapping[str, Role],
        chances: Chances,
        num_pages: int,
        names: Sequence[str],
    ) -> None:
        """With engines of these ``roles``, and requests to orchestrations of these ``names``."""
        self.random, self.now = Random(seed), 100.0
        self.roles, self.chances, self.names = roles, chances, names
        self.num_pages = num_pages
        self.network = FakeNetwork()
        self.core = RouterCore(RouterConfig(ROUTER, stall_s=10.0), strategies())
        self.members: dict[str, Incarnation] = {}
        self.epochs = Counter[str]()
        self.post: defaultdict[tuple[str, str], deque[Letter]] = defaultdict(deque)
        self.asked: dict[str, Asked] = {}
        self.heard: dict[str, list[Reply]] = defaultdict(list)
        self.outcomes = Counter[tuple[str, str]]()
        for name in roles:
            self.begin(name)
        while self._letters():
            self.deliver()

    # --- what may happen ------------------------------------------------------------------------

    def live(self, num_moves: int) -> None:
        """So many things happen, one after the other."""
        moves: list[tuple[float, Callable[[], None]]] = [
            (self.chances.death, self.kill),
            (3 * self.chances.death, self.revive),
            (self.chances.silence, self.silence),
            (self.chances.leave, self.leave),
            (self.chances.direct, self.direct),
            (0.05, self.ask),
            (0.04, self.tick),
            (0.20, self.move_kv),
            (0.30, self.compute),
            (0.40, self.deliver),
        ]
        weights, doings = [w for w, _ in moves], [do for _, do in moves]
        for do in self.random.choices(doings, weights, k=num_moves):
            do()

    def settle(self) -> None:
        """Nothing bad happens any more, and everything comes to its end."""
        self.chances = Chances()
        for name in self.roles:
            self.revive(name)
        for member in self.members.values():
            member.silent_until_s = 0.0
        for _ in range(2000):
            self.tick()
            while self._letters():
                self.deliver()
            for name, member in self.members.items():
                while self.network.events[name]:
                    self._hear_kv(name, member)
                if member.engine.has_work:
                    self._step(name, member)
            self.network.settle()
            if not (self.core.flows or self._letters() or self._is_busy() or self._lease_out()):
                return
        raise AssertionError(f"it never ends: {list(self.core.flows)}")

    def _is_busy(self) -> bool:
        return any(m.engine.has_work or self.network.events[n] for n, m in self.members.items())

    def begin(self, name: str) -> None:
        self.epochs[name] += 1
        who = name, self.epochs[name], self.roles[name]
        draft_tokens, num_slots = self.random.choice([0, 3]), self.random.choice([0, 8])
        member = Incarnation(self.network, *who, self.num_pages, draft_tokens, num_slots)
        self.members[name] = member
        self._say_to_router(name, member.beat())

    def kill(self) -> None:
        """What it published is on its way; what was meant for it is lost, and all its pages. One
        that the router knows is left always."""
        known = [n for n in self.members if self.core.roster.epoch(n) == self.epochs[n]]
        if len(known) < 2:
            return
        name = self.random.choice(known)
        del self.members[name]
        for opened in list(self.network.opened.values()):
            if name in (opened.engine, opened.granted.engine):
                self.network.fail(opened, f"{name} died")
        for granted in list(self.network.granted.values()):
            if granted.engine == name:
                del self.network.granted[name, *granted.key]
        self.network.events[name].clear()
        for letter in self.post.pop((ROUTER, name), ()):
            if isinstance(letter, Order):
                self.post[BROKER, ROUTER].append(Undelivered(letter))

    def revive(self, name: str = "") -> None:
        dead = sorted({*self.roles} - {*self.members})
        if dead and name in ("", *dead):
            self.begin(name or self.random.choice(dead))

    def silence(self) -> None:
        """It works, and nobody hears that it lives."""
        if self.members:
            name = self.random.choice(sorted(self.members))
            self.members[name].silent_until_s = self.now + SILENT_S

    def ask(self) -> None:
        if len(self.asked) == REQUESTS:
            return
        chance, flow = self.random, f"{len(self.asked):032x}"
        begin = range(chance.choice([0, 4, 9, 16, 23]))
        prompt = Tokens([*begin, *(chance.randrange(1000) for _ in range(chance.randint(1, 12)))])
        sampling = Sampling(
            max_tokens=chance.randint(1, 20),
            temperature=chance.choice([0.0, 0.8]),
            seed=chance.randrange(100),
            n=chance.choice([1, 1, 1, 2]),
        )
        request = Request(
            prompt, sampling, Mailbox(USERS, "msgpack"), priority=chance.choice([0, 0, 1])
        )
        name = chance.choice(self.names)
        if name == "migrate_context":  # a context is moved, and nothing answered
            request = replace(request, sampling=Sampling(max_tokens=0))
        self.asked[flow] = asked = Asked(
            flow,
            "fake",
            request,
            name,
            timeout_s=1.0 if chance.random() < self.chances.hurry else None,
            tag=flow,
            user=chance.choice(["ann", "bob"]),
        )
        self._tell_router(asked)

    def leave(self) -> None:
        if self.asked:
            self._tell_router(Withdrawn(self.random.choice(list(self.asked))))

    def direct(self) -> None:
        if self.core.flows:
            flow = self.random.choice(list(self.core.flows))
            self._tell_router(Wished(flow, self.random.choice(list(self.roles))))

    def tick(self) -> None:
        """Time passes for everybody, and in most of it letters arrive."""
        self.now += TICK_S
        for name, member in self.members.items():
            if self.now >= member.silent_until_s:
                self._say_to_router(name, member.beat())
            if self.random.random() < 0.7:
                while self.post[name, ROUTER]:
                    self._deliver_to_router(self.post[name, ROUTER].popleft())
        self._tell_router(Ticked())

    def move_kv(self) -> None:
        """Bytes, or what a transport has to tell."""
        heard = [name for name in self.members if self.network.events[name]]
        if heard and self.random.random() < 0.5:
            name = self.random.choice(heard)
            self._hear_kv(name, self.members[name])
        elif actions := self.network.actions():
            act = self.random.choice(actions)
            is_fault = act.func.__name__ in ("fail", "expire")
            if not is_fault or self.random.random() < self.chances.break_off:
                act()

    def compute(self) -> None:
        name = self.random.choice(list(self.roles))
        if (member := self.members.get(name)) and member.engine.has_work:
            self._step(name, member)

    def deliver(self) -> None:
        """The first letter from somebody to somebody."""
        if not (ways := self._letters()):
            return
        sender, receiver = self.random.choice(ways)
        letter = self.post[sender, receiver].popleft()
        if receiver == ROUTER:
            self._deliver_to_router(letter)
        elif receiver == USERS:
            self._deliver_to_users(letter)
        else:
            self._deliver_to_engine(receiver, letter)

    # --- what comes of it -----------------------------------------------------------------------

    def _deliver_to_router(self, letter: Letter) -> None:
        if isinstance(letter, Undelivered):
            self._tell_router(letter)
            return
        assert isinstance(letter, Publish)
        kinds: dict[str, Any] = {"event": Report, "tokens": Progress}
        kind = Beat if letter.subject.startswith("ms.beat.") else CacheChanged
        self._tell_router(decode(letter.payload, kinds.get(last(letter.subject), kind)))

    def _deliver_to_users(self, letter: Letter) -> None:
        assert isinstance(letter, Publish)
        for reply in decode(letter.payload, Batch):
            self.heard[reply.tag if isinstance(reply, Rejected) else reply.flow].append(reply)

    def _deliver_to_engine(self, name: str, letter: Letter) -> None:
        member = self.members.get(name)
        if isinstance(letter, Order) and member is None:
            self._tell_router(Undelivered(letter))
        elif isinstance(letter, Order) and member:
            if self.random.random() < self.chances.repeat:
                self.post[ROUTER, name].append(letter)
            self._carry(name, member.host.order(letter, None, self.now))
        elif member:
            self._carry(name, member.news.snapshot())

    def _tell_router(self, event: RouterInput) -> None:
        self._carry(ROUTER, self.core.handle(event, self.now))
        self.core.check_integrity()

    def _say_to_router(self, name: str, beat: Beat) -> None:
        self.post[name, ROUTER].append(Publish(SUBJECTS.beat(name), encode(beat)))

    def _hear_kv(self, name: str, member: Incarnation) -> None:
        event = self.network.events[name].popleft()
        self._carry(name, member.host.news(event, self.now))

    def _step(self, name: str, member: Incarnation) -> None:
        outcomes = member.engine.step(self.now)
        self._carry(name, member.host.outcomes(outcomes, self.now))
        self._carry(name, [*member.host.follow(self.now), *member.news.news(self.now)])

    def _carry(self, sender: str, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.post[ROUTER, effect.order.command.engine].append(effect.order)
            elif isinstance(effect, Publish):
                self.post[_way(sender, effect.subject)].append(effect)
            elif isinstance(effect, Withdraw):
                raise AssertionError(f"{effect.ref} failed in service: {effect.reason}")
        if sender in self.members:
            self.members[sender].engine.check_integrity()

    def _letters(self) -> list[tuple[str, str]]:
        return [way for way, letters in self.post.items() if letters]

    def _lease_out(self) -> bool:
        """Whether anything was granted still, for which nobody comes any more."""
        granted = list(self.network.granted.values())
        for one in granted:
            self.network.expire(one)
        return bool(granted)

    # --- whether it was right -------------------------------------------------------------------

    def check(self) -> None:
        """After `settle`: everybody was answered, and nothing is left anywhere.

        Raises:
            AssertionError: saying what is wrong.
        """
        for name, member in self.members.items():
            now, open_commands = member.engine.statistics(), member.host.statistics().open
            assert now.flows == 0, f"{name} has flows that nobody has"
            assert now.free_pages + now.cached_pages == now.total_pages, f"{name} lost pages"
            assert open_commands == 0, f"{name} has commands without an end"
        for flow, asked in self.asked.items():
            reason = read(asked.request, self.heard[flow])
            self.outcomes[str(asked.orchestration), reason] += 1


def _way(sender: str, subject: str) -> tuple[str, str]:
    """From whom to whom. A broker keeps the order of what comes to it: so users hear of nothing
    before that which led to it."""
    if subject == USERS:
        return BROKER, USERS
    if subject.endswith(".snapshot"):
        return sender, subject.split(".")[2]
    return sender, ROUTER
