"""Orders as the documents that workers read: written from columns, without a record for each offer.

Apart from `documents`, because workers read orders and have no use for numpy. What the orders of one turn
have in common is written once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.adapters.documents import VERSION, write
from balancer.adapters.record_codec import to_plain
from balancer.errors import StoreError
from balancer.model import Order
from balancer.model.offers import Offers

#: In place of `soonest_s` where nobody else could.
NOBODY: Final = -1.0


class OrderWriter:
    """Writes the orders of one turn. Most of their `values` and of their lanes' numbers are the same."""

    def __init__(self) -> None:
        self._values: tuple[Mapping[str, float], str] = ({}, "{}")
        self._lanes: dict[tuple[str, float, float, float], str] = {}

    def document(self, order: Order) -> str:
        """An order, for `order:<class>`. Raises `StoreError` when a number in it is not finite."""
        what = f"order of {order.hardware_class}"
        rest = write({"v": VERSION, **to_plain(dataclasses.replace(order, offers=(), values={}))}, what)
        offers, values = self._offers(Offers.of(order.offers), what), self._of_lanes(order.values, what)
        return rest.replace('"offers":[],"values":{}', f'"offers":[{offers}],"values":{values}', 1)

    def _of_lanes(self, values: Mapping[str, float], what: str) -> str:
        if self._values[0] != values:
            self._values = values, write(to_plain(values), what)
        return self._values[1]

    def _offers(self, offers: Offers, what: str) -> str:
        """The offers as JSON, by far the most of an order: pasted from columns, without a record for each."""
        columns = (offers.seconds, offers.best_seconds, offers.value, offers.ratio)
        if not all(np.isfinite(column).all() for column in columns) or np.isinf(offers.soonest_s).any():
            raise StoreError(f"{what} cannot be written as JSON: a number is not finite")
        soonest = np.where(np.isnan(offers.soonest_s), NOBODY, offers.soonest_s)
        lanes = zip(offers.queues, offers.best_seconds.tolist(), offers.value.tolist(), soonest.tolist(),
                    strict=True)
        rows = zip(map(self._lane, lanes), _plain(offers.seconds), _plain(offers.ratio), strict=True)
        return ",".join([f'{lane},"seconds":{seconds},"ratio":{ratio}}}' for lane, seconds, ratio in rows])

    def _lane(self, lane: tuple[str, float, float, float]) -> str:
        """How the offer of a lane begins: most often every class's offer begins so."""
        text = self._lanes.get(lane)
        if text is None:
            queue, best, value, soonest = lane
            told = "" if soonest == NOBODY else f',"soonest_s":{soonest!r}'
            name = json.dumps(queue, ensure_ascii=False)
            text = f'{{"queue":{name},"best_seconds":{best!r},"value":{value!r}{told}'
            self._lanes[lane] = text
        return text


def order_document(order: Order) -> str:
    """One order alone."""
    return OrderWriter().document(order)


def _plain(values: NDArray[np.float64]) -> Sequence[str]:
    """Each number as JSON has it; a list is written at once."""
    return repr(values.tolist())[1:-1].split(", ") if values.size else []

