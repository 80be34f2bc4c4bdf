"""The lanes that one class is offered, as columns: an offer is made into a record where somebody looks.

Twenty classes times two hundred lanes are made anew each second; made by `decide.order`, written by the
store straight from the columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from balancer.model.decision import LaneOffer

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offers(Sequence[LaneOffer]):
    """Columns (N,) named as the fields of `LaneOffer`; `soonest_s` is NaN where nobody else could."""

    queues: Sequence[str]
    seconds: Floats
    best_seconds: Floats
    value: Floats
    ratio: Floats
    soonest_s: Floats

    @classmethod
    def of(cls, offers: Sequence[LaneOffer]) -> Offers:
        """Any offers as columns."""
        if isinstance(offers, cls):
            return offers
        return cls(
            queues=tuple(offer.queue for offer in offers),
            seconds=np.array([offer.seconds for offer in offers], dtype=np.float64),
            best_seconds=np.array([offer.best_seconds for offer in offers], dtype=np.float64),
            value=np.array([offer.value for offer in offers], dtype=np.float64),
            ratio=np.array([offer.ratio for offer in offers], dtype=np.float64),
            soonest_s=np.array([offer.soonest_s for offer in offers], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.queues)

    @overload
    def __getitem__(self, row: int) -> LaneOffer: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[LaneOffer, ...]: ...
    def __getitem__(self, row: int | slice) -> LaneOffer | tuple[LaneOffer, ...]:
        if isinstance(row, slice):
            return tuple(self[i] for i in range(*row.indices(len(self))))
        soonest = float(self.soonest_s[row])
        return LaneOffer(
            queue=self.queues[row], seconds=float(self.seconds[row]), value=float(self.value[row]),
            best_seconds=float(self.best_seconds[row]), ratio=float(self.ratio[row]),
            soonest_s=None if math.isnan(soonest) else soonest,
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str):
            return self is other or tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.queues))
