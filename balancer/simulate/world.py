"""The simulated fleet: nodes and queues, what a balancer sees of them, and what a node takes next.

A pop is judged by the code real workers use (`decide.pull.ranked`), from the backlog of that moment. Used by
`twin`, which owns the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType

from balancer.decide.columns import fitness
from balancer.decide.fragments import Room
from balancer.decide.pull import TYPICAL, Device, ranked
from balancer.model import Fleet, Footprint, Lane, Order, Reading, due_s
from balancer.routing import can_run, class_queue, direct_queue, lane_queue, strike_reason
from balancer.simulate.node import Node
from balancer.simulate.queues import WINDOW, Queues, Waiting
from balancer.simulate.scenario import Scenario

Kind = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A message that a node took, and from where."""

    node: Node
    queue: str
    message: Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What tasks ask of a device's memory: bytes by profile, and the same by lane for `decide.pull`; whether
    some ask for certain workers."""

    by_profile: dict[str, int]
    by_queue: dict[str, Footprint]
    for_workers: bool


class World:
    """Nodes by name, the queues, and the orders that the nodes follow; `ahead` messages are reserved a node
    beyond its slots."""

    __slots__ = ("_able", "_asked", "_order_of", "ahead", "nodes", "orders", "queues", "scenario")

    def __init__(self, scenario: Scenario, ahead: int = 0) -> None:
        self.scenario = scenario
        self.ahead = ahead
        self.nodes = {machine.name: Node(machine) for machine in scenario.machines}
        self.queues = Queues(lane_queue(profile) for profile in scenario.profiles)
        self.orders: Mapping[str, Order] = {}
        needed = {name: profile.needs.gpu_memory_bytes or 0 for name, profile in scenario.profiles.items()}
        self._asked = Asked(
            by_profile=needed,
            by_queue={lane_queue(name): Footprint(share=share) for name, share in needed.items()},
            for_workers=any(profile.needs.affinity for profile in scenario.profiles.values()))
        self._able: dict[tuple[str, str], bool] = {}
        self._order_of = {lane_queue(name): profile for name, profile in scenario.profiles.items()}

    def observe(self, at: float, ttl_s: float, silent: tuple[str, ...] = ()) -> Fleet:
        """What heartbeats, lanes and queues tell. A killed worker's last report counts for `ttl_s`."""
        every_s, profiles = self.scenario.costs.checkpoint_s, dict(self.scenario.profiles)
        workers = tuple(
            node.report(at, profiles, self._asked.by_profile, every_s) for node in self.nodes.values()
            if node.alive or 0 <= at - node.machine.until_s < ttl_s
        )
        others = {queue: n for queue, n in self.queues.waiting.items() if queue not in self._order_of}
        return Fleet(
            at=at, workers=workers, lanes=tuple(self._lane(queue, at) for queue in self._order_of),
            queues=MappingProxyType(others), silent=silent,
            queued=tuple(task for queue, n in self.queues.waiting.items() if n
                         for task in self.queues.seen(queue)),
        )

    def _lane(self, queue: str, at: float) -> Lane:
        seen = list(islice(self.queues.messages(queue), WINDOW))
        sizes = [message.job.size for message in seen]
        since = self.queues.head_since(queue)
        return Lane(
            queue=queue, profile=self._order_of[queue], waiting=self.queues.waiting[queue],
            mean_size=sum(sizes) / len(sizes) if sizes else 1.0,
            oldest_s=None if since is None else at - since,
            due_s=due_s((message.expires_at for message in seen), at),
        )

    def follow(self, orders: Mapping[str, Order]) -> None:
        """The orders as workers read them, with a record for each offer."""
        self.orders = {name: replace(order, offers=tuple(order.offers)) for name, order in orders.items()}

    def takes(self, at: float) -> Iterator[Taken]:
        """One message after the other that some node takes now; whoever is idle for longest asks first.

        The caller starts each before it asks for the next.
        """
        refused: set[Kind] = set()
        asking = [n for n in self.nodes.values() if n.alive and n.free_slots(self.ahead) > 0]
        for node in sorted(asking, key=lambda n: (n.idle_since, n.name)):
            while node.free_slots(self.ahead) > 0:
                if not any(self.queues.waiting.values()):
                    return
                kind = self._kind(node)
                taken = None if kind in refused else self._take(node, at)
                if taken is None:
                    if kind is not None and not self.queues.waiting.get(direct_queue(node.name)):
                        refused.add(kind)
                    break
                yield Taken(node=node, queue=taken[0], message=taken[1])

    def _kind(self, node: Node) -> Kind | None:
        """Nodes of one kind answer alike at one moment; `None` for one that is like no other."""
        own = self.queues.waiting.get(direct_queue(node.name))
        if own or node.machine.heat is not None or self._asked.for_workers:
            return None
        name = node.machine.hardware.hardware_class
        order = self.orders.get(name)
        if order is not None and any(node.name in told
                                     for told in (order.first_runs, order.special, order.coming)):
            return None
        speed = order.speeds.get(node.name, 1.0) if order else 1.0
        free = node.free_bytes(self._asked.by_profile)
        room = None if free is None else node.free_slots(self.ahead)
        return name, speed, free, room, *fitness(node.machine.hardware)

    def _take(self, node: Node, at: float) -> tuple[str, Waiting] | None:
        hardware = node.machine.hardware
        reading = Reading(temperature_celsius=node.celsius,
                          gpu_memory_free_bytes=node.free_bytes(self._asked.by_profile))
        own = (direct_queue(node.name), class_queue(hardware.hardware_class))

        def fits(message: Waiting) -> bool:
            """Memory and heat of this moment."""
            needs = self.scenario.profiles[message.job.profile].needs
            return strike_reason(reading, needs) is None

        lanes = self._ordered(node, at) if self._some_fit(node) else ()
        return self.queues.take((*own, *(q for q in lanes if self._runs(node, q))), fits)

    def _free_bytes(self, node: Node) -> int | None:
        """What is free of its device for what it may choose."""
        free = node.free_bytes(self._asked.by_profile)
        order = self.orders.get(node.machine.hardware.hardware_class)
        return free if free is None or order is None else free - order.coming.get(node.name, 0)

    def _some_fit(self, node: Node) -> bool:
        """Whether anything waits in a lane that its device has room for."""
        free = self._free_bytes(node)
        return free is None or any(self.queues.waiting[queue] and asked.share <= free
                                   for queue, asked in self._asked.by_queue.items())

    def _ordered(self, node: Node, at: float) -> list[str]:
        """The lanes in the order of its class, as a real worker arranges them."""
        order = self.orders.get(node.machine.hardware.hardware_class)
        since = {queue: self.queues.head_since(queue) for queue in self._order_of}
        oldest = {queue: at - when for queue, when in since.items() if when is not None}
        if order is None:
            return sorted(oldest, key=lambda queue: -oldest[queue])
        waiting = {queue: self.queues.waiting[queue] for queue in self._order_of}
        chosen = ranked(order, waiting, oldest, order.speeds.get(node.name, 1.0), self._device(node),
                        self._first(node, order), order.special.get(node.name, TYPICAL))
        if order.exclusive:
            return chosen
        known = {offer.queue for offer in order.offers}
        return [*chosen, *(queue for queue in self._order_of if queue not in known)]

    @staticmethod
    def _first(node: Node, order: Order) -> str | None:
        """The lane of which it is to have the first run, unless it has begun one."""
        queue = order.first_runs.get(node.name)
        return None if queue in {lane_queue(run.job.profile) for run in node.runs.values()} else queue

    def _device(self, node: Node) -> Device | None:
        """What is free of a shared device, and what a task of each lane takes of it."""
        free = self._free_bytes(node)
        if free is None:
            return None
        room = Room(left=(float(free),), slots=node.free_slots(self.ahead))
        return Device(room=room, takes=self._asked.by_queue)

    def _runs(self, node: Node, queue: str) -> bool:
        key = (node.name, queue)
        if key not in self._able:
            needs = self._order_of[queue].needs
            self._able[key] = can_run(node.machine.hardware, needs, worker=node.name)
        return self._able[key]
