"""What one tick saw, foresaw, chose and refused, with its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from balancer.model.fleet import SetAside
from balancer.model.task import Footprint

MoveKind = Literal["queued", "reserved", "running"]
Direction = Literal["increasing", "decreasing", "stable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLoad:
    """Load over the fleet at one tick: mean, deviation and max − min of the workers' utilisation (0–1)."""

    at: float
    average: float
    deviation: float
    imbalance: float
    highest: str | None = None
    lowest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The bounds of high and low utilisation (0–1), and where they began."""

    high: float
    low: float
    initial_high: float
    initial_low: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTrend:
    """Slope of the load in utilisation per tick, by least squares; `magnitude` is its absolute value."""

    direction: Direction
    slope: float
    magnitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A load foreseen for `due_at`, with the interval that `confidence` speaks of.

    `subject` is "system" or a worker's name.
    """

    subject: str
    made_at: float
    due_at: float
    value: float
    low: float
    high: float
    confidence: float
    method: str = "regression"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedForecast:
    """A forecast whose time has come. `accuracy` is 1 − |truth − value|, floored at 0."""

    forecast: Forecast
    truth: float
    accuracy: float
    inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Imbalance:
    """An imbalance seen now or foreseen; worker names, most loaded first and least loaded first."""

    kind: Literal["current", "predicted"]
    score: float
    overloaded: Sequence[str]
    underloaded: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a move costs and gains, on the seed's scale (cost 0–10, benefit ≥ 0) and in seconds."""

    cost: float
    benefit: float
    cost_s: float | None = None
    benefit_s: float | None = None
    parts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def net_benefit(self) -> float:
        return self.benefit - self.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One task to be moved. `source` and `target` are worker names or, for queued work, queues.

    `target_queue` is where the message goes; `count` is more than one only for queued work
    that is moved without choosing ids (then `task_id` is empty). With `preempt` a running task is
    interrupted where it is; without, it leaves at its next checkpoint.
    """

    move_id: str
    task_id: str
    profile: str
    kind: MoveKind
    source: str
    target: str
    target_queue: str
    reason: str
    score: Score
    at: float
    proactive: bool = False
    count: int = 1
    preempt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A candidate that was not moved, and why: a short reason and a sentence."""

    task_id: str
    profile: str
    kind: MoveKind
    source: str
    target: str
    reason: str
    detail: str = ""
    score: Score | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOffer:
    """One lane as a class of hardware sees it, so that a worker can judge for itself.

    `seconds` is p[profile, class] for a task of the lane's mean size (s), `best_seconds` the
    least over all classes that are there, `value` v = min π·p (dimensionless share of drain
    time a task), `ratio` v / (π·p) that ranks it. `soonest_s` is how soon a task at the lane's
    head would be done if it were left to whichever class would finish it first, the backlog of
    the order's time and the work in hand counted; `None` when nobody else could.
    """

    queue: str
    seconds: float
    best_seconds: float
    value: float
    ratio: float
    soonest_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a hardware class should serve, in groups of ties, first group first.

    `offers` holds every lane of the fleet that this class can run; `values` the value v of
    every lane of the fleet, by queue, and `committed_s` Σ π·R, so that a worker can compute
    T(π) = Σ n·v + committed_s from the backlog it reads itself; `backlog_s` is Σ n·v at the
    order's time. With `guarded` a worker refuses a lane whose `seconds` exceed T(π) +
    `best_seconds`, or `soonest_s` corrected by what the backlog has grown since
    (`balancer.decide.order.accepts`). With `exclusive` lanes that are not in `groups` are not
    served at all while the order is fresh. `speeds` names the workers of the class that are
    faster or slower than it, with their speed relative to it, and `special` those that are better or
    worse at single lanes, by lane the factor on that speed. `first_runs` is, by worker, the lane
    that nobody of the class has run yet and that this worker tries before any other. `usual` are the
    fleet's usual tasks by the device memory (bytes) that they take, with how often each comes
    (Σ = 1); empty where no task takes any. So many of the first groups are `urgent`: they go
    before all others, whatever their ratio. `coming` is, by worker, the device memory (bytes) of what is on
    its way there, which it keeps free.
    """

    hardware_class: str
    at: float
    groups: tuple[tuple[str, ...], ...] = ()
    offers: Sequence[LaneOffer] = ()
    values: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    price: float = 0.0
    committed_s: float = 0.0
    backlog_s: float = 0.0
    speeds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    special: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    first_runs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    guarded: bool = True
    exclusive: bool = False
    strategy: str = "priced"
    usual: tuple[tuple[float, Footprint], ...] = ()
    urgent: int = 0
    coming: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortTurn:
    """What a turn between whole ticks chose: an order for each hardware class, and moves that cannot wait."""

    at: float
    strategy: str
    orders: tuple[Order, ...] = ()
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPower:
    """Watts of a hardware class: what a slot in use adds and what an idle worker draws, as its workers'
    reports tell ("measured", or "emulated" where the devices are). By the "table" of hardware profiles kinds
    are only compared: there are no watts."""

    source: Literal["measured", "emulated", "table"]
    slot_w: float | None = None
    idle_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All that one whole tick found and chose. `power` is by hardware class."""

    at: float
    strategy: str
    load: SystemLoad
    thresholds: Thresholds
    trend: WorkloadTrend
    forecasts: Sequence[Forecast] = ()
    judged: Sequence[JudgedForecast] = ()
    accuracy: float | None = None
    imbalance: Imbalance | None = None
    orders: tuple[Order, ...] = ()
    moves: tuple[Move, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    power: Mapping[str, ClassPower] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
