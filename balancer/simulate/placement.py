"""FGD's own experiment: pods of openb until they are 130 % of all GPUs; how much of the GPUs is allocated?

One by one, each placed where a policy says or refused for ever, as in the paper; or all of them waiting in
lanes, and nodes that take what fits them best (`pull`), by the rule of late binding. Nobody ends meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.fragments import SAME, Mix, fragments
from balancer.simulate.recorded import OpenNode, Pod, load_nodes, load_pods

#: Demand in GPUs over the GPUs that there are.
DEMAND: Final = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is free on a node: of each GPU (0–1), of its processor and of its memory."""

    left: tuple[float, ...]
    cpu: int
    memory: int

    def after(self, kind: Kind, gpus: tuple[int, ...]) -> State:
        """With a pod on these GPUs."""
        left = list(self.left)
        for gpu in gpus:
            left[gpu] = round(left[gpu] - kind.share, 6)
        return State(left=tuple(left), cpu=self.cpu - kind.cpu, memory=self.memory - kind.memory)

    def places(self, kind: Kind) -> Iterator[tuple[int, ...]]:
        """The GPUs that a pod could get: one of each fullness, or the first whole ones."""
        if kind.cpu > self.cpu or kind.memory > self.memory:
            return
        fit = [g for g, left in enumerate(self.left) if left >= kind.share - SAME]
        if len(fit) < kind.gpus:
            return
        if kind.gpus > 1:
            yield tuple(fit[: kind.gpus])
            return
        yield from {self.left[g]: (g,) for g in reversed(fit)}.values()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Pods that ask for the same."""

    gpus: int
    share: float
    cpu: int
    memory: int

    @property
    def wanted(self) -> float:
        """GPUs in all."""
        return self.gpus * self.share


def kind_of(pod: Pod) -> Kind:
    return Kind(gpus=pod.gpus, share=pod.milli / 1000, cpu=pod.cpu_milli, memory=pod.memory_mib)


#: What a policy says of one way to place a pod: the least is taken.
Rating = tuple[float, ...]


@dataclass(slots=True)
class Cluster:
    """The nodes' states, and what is known of states by kind: all nodes in one state are alike."""

    states: list[State]
    mix: Mix
    rate: Callable[[Cluster, State, State], Rating]
    known: dict[tuple[State, Kind], tuple[Rating, State] | None] = field(default_factory=dict)
    wasted: dict[State, float] = field(default_factory=dict)

    def fragments(self, state: State) -> float:
        """F of a node in this state."""
        if state not in self.wasted:
            self.wasted[state] = fragments(state.left, state.cpu, state.memory, self.mix)
        return self.wasted[state]

    def best(self, state: State, kind: Kind) -> tuple[Rating, State] | None:
        """The best way to place a pod of this kind on a node in this state; `None` where it does not fit."""
        if (state, kind) not in self.known:
            options = ((self.rate(self, state, after), after)
                       for gpus in state.places(kind) for after in (state.after(kind, gpus),))
            self.known[state, kind] = min(options, key=lambda o: o[0], default=None)
        return self.known[state, kind]


def _gradient(cluster: Cluster, before: State, after: State) -> Rating:
    return cluster.fragments(after) - cluster.fragments(before), sum(after.left)


def _tightest(_: Cluster, before: State, after: State) -> Rating:
    return sum(after.left), min(new for new, old in zip(after.left, before.left, strict=True) if new != old)


#: Policies by name. `pull` rates as `fgd` does.
RATES: Final = MappingProxyType({"best fit": _tightest, "fgd": _gradient, "pull": _gradient,
                                 "random": lambda *_: (0.0,)})


def allocated(policy: str, seed: int, nodes: tuple[OpenNode, ...] | None = None) -> float:
    """Share of all GPUs (0–1) that is allocated at a demand of `DEMAND`; pods are drawn with replacement."""
    chance = Random(seed)
    chosen = nodes or load_nodes()
    gpus = sum(node.gpus for node in chosen)
    demand, wanted = [], 0.0
    kinds = [kind_of(pod) for pod in load_pods()]
    while wanted < DEMAND * gpus:
        demand.append(chance.choice(kinds))
        wanted += demand[-1].wanted
    states = [State(left=(1.0,) * n.gpus, cpu=n.cpu_milli, memory=n.memory_mib) for n in chosen]
    cluster = Cluster(states, usual(kinds), RATES[policy])
    if policy == "pull":
        pull(cluster, demand, chance)
    else:
        arrive(cluster, demand, chance if policy == "random" else None)
    return 1.0 - sum(sum(state.left) for state in cluster.states) / gpus


def usual(kinds: list[Kind]) -> Mix:
    """The mix of the whole trace."""
    counted = Counter(kinds)
    total = sum(counted.values())
    columns = [(n / total, k.gpus, k.share, k.cpu, k.memory) for k, n in counted.items()]
    weight, gpus, share, cpu, memory = np.array(columns, dtype=np.float64).T
    return Mix(weight=weight, gpus=gpus, share=share, cpu=cpu, memory=memory)


def arrive(cluster: Cluster, demand: list[Kind], chance: Random | None) -> None:
    """One pod after the other, to the node that is rated best, or to a random one that it fits."""
    nodes: dict[State, list[int]] = {}
    for i, state in enumerate(cluster.states):
        nodes.setdefault(state, []).append(i)
    for kind in demand:
        options = [(found[0], state, found[1]) for state in nodes if (found := cluster.best(state, kind))]
        if not options:
            continue
        if chance is None:
            _, state, after = min(options, key=lambda o: (o[0], nodes[o[1]][0]))
        else:
            _, state, after = chance.choices(options, [len(nodes[o[1]]) for o in options])[0]
        i = nodes[state].pop()
        if not nodes[state]:
            del nodes[state]
        nodes.setdefault(after, []).append(i)
        cluster.states[i] = after


def pull(cluster: Cluster, demand: list[Kind], chance: Random) -> None:
    """All pods wait in a lane a kind; nodes in random order take one each, from the lane that leaves the
    least of no use, until none finds anything."""
    waiting = Counter(demand)
    active = list(range(len(cluster.states)))
    while active:
        chance.shuffle(active)
        took = []
        for i in active:
            state = cluster.states[i]
            options = [((*found[0], -kind.wanted), kind, found[1]) for kind, n in waiting.items()
                       if n and (found := cluster.best(state, kind))]
            if not options:
                continue
            _, kind, after = min(options, key=lambda o: o[0])
            waiting[kind] -= 1
            cluster.states[i] = after
            took.append(i)
        active = took
