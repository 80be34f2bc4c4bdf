"""Fleets, jobs and settings of every sort, drawn by hypothesis, for what must hold in all of them.

One machine of the class `ANCHOR` runs everything and is never lost: every task could end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from balancer.decide.estimate import Estimate, Estimates
from balancer.errors import SettingError
from balancer.model import Hardware, Needs, TaskProfile, as_kind
from balancer.settings import Settings, parse
from balancer.simulate.scenario import INFINITY, Costs, Heat, Job, Machine, Scenario, Slowdown

ANCHOR = "cuda-V100"
CLASSES = (ANCHOR, "cuda-K80", "rocm-MI50", "cpu")
SURE = "anchor@twin"

#: All memory of a device, bytes.
WHOLE = 16 * 10**9


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Up to six machines that come, slow down and are killed, maybe a crowd of another four of one class, and
    up to twenty jobs of up to four kinds."""
    seconds = {f"p{i}": _speeds(draw) for i in range(draw(st.integers(1, 4)))}
    profiles = {name: _profile(draw, name, tuple(by_class)) for name, by_class in seconds.items()}
    anchor = Machine(name=SURE, hardware=_hardware(ANCHOR), slots=draw(st.integers(1, 3)),
                     shared_bytes=draw(st.sampled_from([None, WHOLE])))
    others = [_machine(draw, i) for i in range(draw(st.integers(0, 5)))]
    if draw(st.booleans()):
        crowd = _hardware(draw(st.sampled_from(CLASSES)))
        others += [Machine(name=f"crowd{i}@twin", hardware=crowd, slots=1) for i in range(4)]
    away = draw(st.sampled_from([(), (), ((10.0, 60.0),), ((20.0, INFINITY),)]))
    jobs = [_job(draw, i, sorted(seconds)) for i in range(draw(st.integers(1, 20)))]
    return Scenario(
        name="random", about="drawn by hypothesis", machines=(anchor, *others),
        jobs=tuple(sorted(jobs, key=lambda job: (job.release_s, job.task_id))), profiles=profiles,
        seconds=seconds, costs=Costs(handover_s=draw(st.sampled_from([0.0, 0.1, 3.0])),
                                     checkpoint_s=draw(st.sampled_from([1.0, 5.0, 40.0]))), away=away,
    )


def _speeds(draw: st.DrawFn) -> dict[str, float]:
    able = [ANCHOR, *(name for name in CLASSES[1:] if draw(st.booleans()))]
    return {name: draw(st.sampled_from([0.5, 2.0, 6.0, 20.0])) for name in able}


def _profile(draw: st.DrawFn, name: str, able: tuple[str, ...]) -> TaskProfile:
    checkpoints, restartable = draw(st.booleans()), draw(st.booleans())
    needed = draw(st.sampled_from([None, None, WHOLE // 4, WHOLE // 2 + 1, WHOLE]))
    affinity = draw(st.sampled_from([(), (), (), (), (SURE,)]))
    return TaskProfile(name=name, task="t", checkpoints=checkpoints, restartable=restartable,
                       group=draw(st.sampled_from(["", "", "a", "b"])),
                       needs=Needs(hardware=able, gpu_memory_bytes=needed, affinity=affinity))


def _hardware(hardware_class: str, gpu_memory_bytes: int = WHOLE) -> Hardware:
    kind, _, model = hardware_class.partition("-")
    known = as_kind(kind)
    assert known is not None
    return Hardware(kind=known, model=model, gpu_memory_bytes=None if kind == "cpu" else gpu_memory_bytes)


def _machine(draw: st.DrawFn, number: int) -> Machine:
    from_s = draw(st.sampled_from([0.0, 0.0, 0.0, 15.0]))
    until_s = draw(st.sampled_from([INFINITY, INFINITY, from_s + 10.0, from_s + 37.5]))
    slow = draw(st.sampled_from([0.0, 0.1, 0.5]))
    slowed = (Slowdown(from_s=from_s + 5.0, until_s=from_s + 45.0, speed=slow),) if slow else ()
    hardware = _hardware(draw(st.sampled_from(CLASSES)), draw(st.sampled_from([WHOLE, WHOLE, WHOLE // 3])))
    return Machine(
        name=f"m{number}@twin", hardware=hardware, from_s=from_s,
        shared_bytes=draw(st.sampled_from([None, hardware.gpu_memory_bytes])),
        heat=draw(st.sampled_from([None, None, None, Heat(rise_celsius=70.0, tau_s=20.0)])),
        until_s=until_s, slots=draw(st.integers(1, 3)), speed=draw(st.sampled_from([0.3, 1.0, 1.0, 2.0])),
        slowdowns=slowed, pool=draw(st.sampled_from(["prefork", "prefork", "solo"])),
    )


def _job(draw: st.DrawFn, number: int, profiles: list[str]) -> Job:
    size = draw(st.sampled_from([0.1, 1.0, 1.0, 4.0]))
    release_s = draw(st.sampled_from([0.0, 0.0, 3.0, 20.0, 40.0]))
    return Job(
        task_id=f"job-{number:03d}", profile=draw(st.sampled_from(profiles)), size=size, release_s=release_s,
        expires_s=release_s + draw(st.sampled_from([INFINITY, INFINITY, INFINITY, 0.0, 5.0, 30.0])),
        work=size * draw(st.sampled_from([0.5, 1.0, 1.0, 3.0])),
        priority=draw(st.sampled_from([None, None, 0, 9])),
    )


@st.composite
def beliefs(draw: st.DrawFn, made: Scenario) -> Estimates:
    """What was learned before, of other machines and other code: run times, speeds and gifts, true or not."""
    off, count = st.sampled_from([0.2, 0.7, 1.0, 1.0, 3.0]), st.sampled_from([1, 5, 40])
    truth = [(profile, *pair) for profile, by_class in made.seconds.items() for pair in by_class.items()]
    pairs = {(profile, name): Estimate(seconds=s * draw(off), count=draw(count))
             for profile, name, s in truth if draw(st.booleans())}
    speed = st.sampled_from([0.05, 0.5, 0.7, 0.77, 0.77, 1.0, 4.0])
    speeds = {m.name: draw(speed) for m in made.machines if draw(st.booleans())}
    classes = {m.name: m.hardware.hardware_class for m in made.machines if m.name in speeds}
    special = {name: {draw(st.sampled_from(sorted(made.seconds))): draw(st.sampled_from([0.1, 0.5, 2.0]))}
               for name in speeds if draw(st.booleans())}
    return Estimates(pairs=pairs, worker_speed=speeds, worker_class=classes, special=special)


#: Values of each option that are allowed, the nasty ones among them.
VALUES: dict[str, list[Any]] = {
    "check_interval": [1.0, 5.0, 30.0], "price_interval": [1.0, 1.0, 3.0],
    "utilization_threshold_high": [1.0, 0.85, 0.5, 0.05], "utilization_threshold_low": [0.0, 0.2, 0.8, 0.95],
    "threshold_adjustment_rate": [0.0, 0.05, 1.0], "performance_window": [0.1, 5.0],
    "prediction_window": [0.01, 0.1, 3.0], "prediction_confidence": [0.0, 0.7], "trip_samples": [1, 3],
    "clear_samples": [1, 2], "imbalance_threshold": [0.0, 0.3], "move_cooldown": [0.0, 0.0, 5.0, 30.0],
    "move_timeout": [0.1, 5.0, 60.0], "max_simultaneous_migrations": [0, 1, 2, 10_000],
    "preempt": ["restartable", "always", "never"], "handover_cost": [0.0, 0.1, 10.0],
    "tie_ratio": [0.0, 0.15, 1.0], "starvation_factor": [1.0, 4.0], "heartbeat_ttl": [2.0, 10.0],
    "energy_slack": [0.0, 60.0], "backlog_weight": [0.0, 0.5, 1.0], "order_ttl": [4.0, 30.0],
    "group_weights": [{"a": 3.0}, {"a": 0.1, "b": 10.0}],
    "hints": [{"p0": {"cuda": 0.1, "cpu": 60.0}}, {"p0": {ANCHOR: 60.0}, "p1": {"cuda-K80": 0.01}}],
    **{name: [True, True, False] for name in (
        "enable_task_migration", "enable_dynamic_thresholds", "enable_predictive_balancing",
        "enable_cost_benefit_analysis", "enable_hardware_specific_strategies", "enable_resource_efficiency")},
}


@st.composite
def options(draw: st.DrawFn) -> Settings:
    """Settings, each at its default or at another value that is allowed; crossed thresholds are refused."""
    chosen = {name: draw(st.sampled_from(VALUES[name])) for name in VALUES if draw(st.booleans())}
    try:
        return parse(chosen)
    except SettingError:
        return parse({name: v for name, v in chosen.items() if not name.startswith("utilization")})
