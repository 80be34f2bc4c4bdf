"""Every record of the system: frozen, slotted, keyword-only; units in the names, unknown is `None`."""

from balancer.model.decision import (
    Decision,
    Forecast,
    Imbalance,
    JudgedForecast,
    LaneOffer,
    Move,
    MoveKind,
    Order,
    Rejected,
    Score,
    SystemLoad,
    Thresholds,
    WorkloadTrend,
)
from balancer.model.events import Duplicate, Event, HandedOver, Refused, RunFinished, RunStarted
from balancer.model.fleet import Fleet, Lane, QueuedTask, SetAside
from balancer.model.hardware import HARDWARE_PROFILES, KINDS, Hardware, HardwareProfile, Kind, as_kind
from balancer.model.migration import IN_FLIGHT, Migration, MigrationState
from balancer.model.task import HeldTask, Needs, TaskProfile
from balancer.model.worker import DIMENSIONS, Reading, Worker

__all__ = [
    "DIMENSIONS",
    "HARDWARE_PROFILES",
    "IN_FLIGHT",
    "KINDS",
    "Decision",
    "Duplicate",
    "Event",
    "Fleet",
    "Forecast",
    "HandedOver",
    "Hardware",
    "HardwareProfile",
    "HeldTask",
    "Imbalance",
    "JudgedForecast",
    "Kind",
    "Lane",
    "LaneOffer",
    "Migration",
    "MigrationState",
    "Move",
    "MoveKind",
    "Needs",
    "Order",
    "QueuedTask",
    "Reading",
    "Refused",
    "Rejected",
    "RunFinished",
    "RunStarted",
    "Score",
    "SetAside",
    "SystemLoad",
    "TaskProfile",
    "Thresholds",
    "Worker",
    "WorkloadTrend",
    "as_kind",
]
