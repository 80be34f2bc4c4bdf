"""The scenarios by name: the seed document's five situations and two recorded workloads.

Each is a function of a seed and a number of workers. What a scenario claims, and how it can be gamed, is in
`docs/simulate.md`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import Final

from balancer.errors import BalancerError
from balancer.simulate.cards import CARDS
from balancer.simulate.mix import MEAN_SIZE, Maker, Mix, gavel_mix
from balancer.simulate.recorded import openb, philly
from balancer.simulate.scenario import Machine, Scenario

#: Job types of Gavel's table that no single GPU is best for, single-GPU runs.
TYPES: Final = ("ResNet-50 (batch size 64)", "LM (batch size 20)", "Recommendation (batch size 2048)", "A3C",
                "Transformer (batch size 64)", "ResNet-18 (batch size 32)")

#: Seconds of a job of size 1 on its best hardware.
MEAN_S: Final = 6.0

#: Seconds in which work arrives, and when a spike comes.
ARRIVING_S: Final = 300.0
SPIKE_AT_S: Final = 60.0

#: Work of a spike, in seconds of the whole fleet; at load 0.5 it takes twice as long to drain.
SPIKE_WORK_S: Final = 45.0


def fleet(workers: int, models: Sequence[str]) -> tuple[Machine, ...]:
    """So many workers of these models, in turns."""
    if workers < 1:
        raise BalancerError(f"a fleet needs at least one worker, not {workers}")
    machines = [CARDS[models[i % len(models)]].machine(i // len(models) + 1) for i in range(workers)]
    return tuple(sorted(machines, key=lambda m: m.name))


def spike(seed: int, workers: int = 12) -> Scenario:
    """Load 0.5, and at 60 s at once work for 45 s of the whole fleet, of two kinds."""
    maker, machines, full = _start(seed, workers)
    maker.arrive(ARRIVING_S, lambda _: 0.5 * full, 0.5 * full)
    for number in range(round(SPIKE_WORK_S * full)):
        maker.add(SPIKE_AT_S, TYPES[number % 2])
    return _made("spike", "load 0.5, at 60 s work for 45 s of the fleet at once", maker, machines,
                 disturbed_s=SPIKE_AT_S)


def gradual(seed: int, workers: int = 12) -> Scenario:
    """Load that grows from 0.2 to 1.0 in five minutes."""
    maker, machines, full = _start(seed, workers)
    maker.arrive(ARRIVING_S, lambda t: full * (0.2 + 0.8 * t / ARRIVING_S), full)
    return _made("gradual", "load grows from 0.2 to 1.0 in five minutes", maker, machines)


def mixed(seed: int, workers: int = 12) -> Scenario:
    """Four minutes of work of six kinds that arrives within 20 s."""
    maker, machines, full = _start(seed, workers)
    chance = Random(seed + 1)
    for _ in range(round(240.0 * full)):
        maker.add(chance.uniform(0.0, 20.0))
    return _made("mixed", "four minutes of work of six kinds within 20 s", maker, machines)


def bursty(seed: int, workers: int = 12) -> Scenario:
    """Load 0.3 and every minute a burst of 24 s of the fleet's work, of one kind each: 0.7 in all."""
    maker, machines, full = _start(seed, workers)
    maker.arrive(ARRIVING_S, lambda _: 0.3 * full, 0.3 * full)
    for burst in range(int(ARRIVING_S / 60.0)):
        for _ in range(round(24.0 * full)):
            maker.add(60.0 * burst + 10.0, TYPES[burst % len(TYPES)])
    return _made("bursty", "load 0.3 and each minute a burst of one kind: 0.7 in all", maker, machines)


#: What a task of the energy scenario may wait if that saved all of its joules (s).
ENERGY_SLACK_S: Final = 20.0

#: Kinds of work of the energy scenario, by how much of it is bound to arithmetic rather than to memory.
COMPUTE: Final = MappingProxyType({"train": 0.9, "tune": 0.6, "embed": 0.3, "serve": 0.1})


def energy(seed: int, workers: int = 12) -> Scenario:
    """Load 0.5 for ten minutes on hungry and frugal cards."""
    models = ("V100", "A10", "T4")
    machines = fleet(workers, models)
    seconds = {name: {CARDS[m].hardware_class: MEAN_S * CARDS[m].seconds(compute) for m in models}
               for name, compute in COMPUTE.items()}
    mix = Mix(seconds=seconds, weights=dict.fromkeys(seconds, 1.0))
    maker, full = Maker(mix, Random(seed)), mix.rate(machines) / MEAN_SIZE
    maker.arrive(600.0, lambda _: 0.5 * full, 0.5 * full)
    return replace(_made("energy", "load 0.5 for ten minutes on V100, A10 and T4", maker, machines),
                   settings={"energy_slack": ENERGY_SLACK_S})


def homogeneous(seed: int, workers: int = 12) -> Scenario:
    """Identical workers, and load that grows from 0.2 to 1.0 in ten minutes."""
    machines = fleet(workers, ("V100",))
    mix = gavel_mix(TYPES, MEAN_S / 4)
    maker, full = Maker(mix, Random(seed)), mix.rate(machines) / MEAN_SIZE
    maker.arrive(600.0, lambda t: full * (0.2 + 0.8 * t / 600.0), full)
    return _made("homogeneous", "identical workers, load grows from 0.2 to 1.0 in ten minutes", maker,
                 machines)


def _start(seed: int, workers: int) -> tuple[Maker, tuple[Machine, ...], float]:
    """A maker of Gavel's kinds, a fleet of K80, P100 and V100, and the jobs a second that it can sustain."""
    machines, mix = fleet(workers, ("K80", "P100", "V100")), gavel_mix(TYPES, MEAN_S)
    return Maker(mix, Random(seed)), machines, mix.rate(machines) / float(MEAN_SIZE)


def _made(name: str, about: str, maker: Maker, machines: tuple[Machine, ...], *,
          disturbed_s: float = 0.0) -> Scenario:
    return Scenario(name=name, about=about, machines=machines, jobs=maker.sorted(),
                    profiles=maker.mix.profiles(), seconds=maker.mix.seconds, disturbed_s=disturbed_s)


#: All scenarios by name.
SCENARIOS: Final[MappingProxyType[str, Callable[..., Scenario]]] = MappingProxyType({
    "spike": spike, "gradual": gradual, "mixed": mixed, "bursty": bursty, "energy": energy,
    "homogeneous": homogeneous, "philly": philly, "openb": openb,
})


def by_name(name: str, seed: int, workers: int | None = None) -> Scenario:
    """The scenario of this name. Raises `BalancerError` with the nearest one."""
    if name not in SCENARIOS:
        near = difflib.get_close_matches(name, SCENARIOS, n=1)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise BalancerError(f"scenario {name!r} is none of {', '.join(SCENARIOS)}{meant}")
    make = SCENARIOS[name]
    return make(seed) if workers is None else make(seed, workers)
