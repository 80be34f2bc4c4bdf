"""FGD's own experiment: pods of openb until they are 130 % of all GPUs; how much of the GPUs is allocated?

One by one, each placed where a policy says or refused for ever, as in the paper; or all of them waiting in
lanes, and nodes that take what fits them best (`pull`), by the rule of late binding. Nobody ends meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final

from balancer.decide.fragments import Fit, Mix, Room, best_fit, fragments
from balancer.decide.pull import Device, ranked
from balancer.model import Footprint, LaneOffer, Order
from balancer.simulate.recorded import OpenNode, Pod, load_nodes, load_pods

#: Demand in GPUs over the GPUs that there are.
DEMAND: Final = 1.3


def kind_of(pod: Pod) -> Footprint:
    """What a pod takes: shares of GPUs, thousandths of a processor, MiB."""
    return Footprint(share=pod.milli / 1000, gpus=pod.gpus, cpu=pod.cpu_milli, memory=pod.memory_mib)


#: What a policy says of one way to place a pod on a node: the least is taken.
Rating = tuple[float, ...]


@dataclass(slots=True)
class Cluster:
    """The nodes' rooms, and what is known of rooms by kind of pod: all nodes with the same room are alike."""

    rooms: list[Room]
    mix: Mix
    rate: Callable[[Room, Fit], Rating]
    known: dict[tuple[Room, Footprint], tuple[Rating, Room] | None] = field(default_factory=dict)
    wasted: dict[Room, float] = field(default_factory=dict)

    def fragments(self, room: Room) -> float:
        """F of a node with this room."""
        if room not in self.wasted:
            self.wasted[room] = fragments(room, self.mix)
        return self.wasted[room]

    def best(self, room: Room, kind: Footprint) -> tuple[Rating, Room] | None:
        """The best way to place a pod of this kind in this room; `None` where it does not fit."""
        if (room, kind) not in self.known:
            before, ways = self.fragments(room), (room.after(kind, gpus) for gpus in room.places(kind))
            fits = (Fit(growth=self.fragments(after) - before, after=after) for after in ways)
            options = ((self.rate(room, fit), fit.after) for fit in fits)
            self.known[room, kind] = min(options, key=lambda o: o[0], default=None)
        return self.known[room, kind]


def _tightest(before: Room, fit: Fit) -> Rating:
    changed = (new for new, old in zip(fit.after.left, before.left, strict=True) if new != old)
    return sum(fit.after.left), min(changed)


#: Policies that place one pod after the other, by name.
RATES: Final = MappingProxyType({"best fit": _tightest, "fgd": lambda _, fit: fit.rating,
                                 "random": lambda *_: (0.0,)})


def allocated(policy: str, seed: int, nodes: tuple[OpenNode, ...] | None = None) -> float:
    """Share of all GPUs (0–1) that is allocated at a demand of `DEMAND`; pods are drawn with replacement.

    A policy of `RATES`, or "pull".
    """
    chance = Random(seed)
    chosen = nodes or load_nodes()
    gpus = sum(node.gpus for node in chosen)
    demand, wanted = [], 0.0
    kinds = [kind_of(pod) for pod in load_pods()]
    while wanted < DEMAND * gpus:
        demand.append(chance.choice(kinds))
        wanted += demand[-1].gpus * demand[-1].share
    rooms = [Room(left=(1.0,) * n.gpus, cpu=n.cpu_milli, memory=n.memory_mib) for n in chosen]
    if policy == "pull":
        pull(rooms, demand, usual(kinds), chance)
    else:
        arrive(Cluster(rooms, usual(kinds), RATES[policy]), demand, chance if policy == "random" else None)
    return 1.0 - sum(sum(room.left) for room in rooms) / gpus


def usual(kinds: list[Footprint]) -> Mix:
    """The mix of the whole trace."""
    return tuple((n / len(kinds), kind) for kind, n in Counter(kinds).items())


def arrive(cluster: Cluster, demand: list[Footprint], chance: Random | None) -> None:
    """One pod after the other, to the node that is rated best, or to a random one that it fits."""
    nodes: dict[Room, list[int]] = {}
    for i, room in enumerate(cluster.rooms):
        nodes.setdefault(room, []).append(i)
    for kind in demand:
        options = [(found[0], room, found[1]) for room in nodes if (found := cluster.best(room, kind))]
        if not options:
            continue
        if chance is None:
            _, room, after = min(options, key=lambda o: (o[0], nodes[o[1]][0]))
        else:
            _, room, after = chance.choices(options, [len(nodes[o[1]]) for o in options])[0]
        i = nodes[room].pop()
        if not nodes[room]:
            del nodes[room]
        nodes.setdefault(after, []).append(i)
        cluster.rooms[i] = after


def pull(rooms: list[Room], demand: list[Footprint], mix: Mix, chance: Random) -> None:
    """All pods wait in a lane a kind, of one price; nodes in random order take one each, as a worker chooses
    (`decide.pull.ranked`), until none finds anything."""
    lanes = {f"{i:04d}": kind for i, kind in enumerate(Counter(demand))}
    counted = Counter(demand)
    waiting = {queue: counted[kind] for queue, kind in lanes.items()}
    offers = {q: LaneOffer(queue=q, seconds=1.0, best_seconds=1.0, value=1.0, ratio=1.0) for q in lanes}
    active, chosen = list(range(len(rooms))), dict[Room, str | None]()
    while active:
        chance.shuffle(active)
        took = []
        for i in active:
            if rooms[i] not in chosen:
                open_ = tuple(queue for queue in lanes if waiting[queue])
                order = Order(hardware_class="gpu", at=0.0, groups=(open_,), guarded=False, usual=mix,
                              offers=tuple(offers[queue] for queue in open_))
                listed = ranked(order, waiting, None, 1.0, Device(room=rooms[i], takes=lanes))
                chosen[rooms[i]] = listed[0] if listed else None
            queue = chosen[rooms[i]]
            fit = best_fit(rooms[i], lanes[queue], mix, 0.0) if queue is not None else None
            if queue is None or fit is None:
                continue
            rooms[i] = fit.after
            took.append(i)
            waiting[queue] -= 1
            if not waiting[queue]:
                chosen.clear()  # what nodes chose from has changed
        active = took
