"""Orders as the documents that workers read: written from columns, without a record for each offer.

Apart from `documents`, because workers read orders and have no use for numpy.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache

import numpy as np

from balancer.adapters.documents import VERSION, write
from balancer.adapters.record_codec import to_plain
from balancer.errors import StoreError
from balancer.model import Order
from balancer.model.offers import Offers


def order_document(order: Order) -> str:
    """An order, for `order:<class>`."""
    what = f"order of {order.hardware_class}"
    rest = write({"v": VERSION, **to_plain(dataclasses.replace(order, offers=()))}, what)
    return rest.replace('"offers":[]', f'"offers":[{_offers(Offers.of(order.offers), what)}]', 1)


def _offers(offers: Offers, what: str) -> str:
    """The offers as JSON, by far the most of an order: pasted from columns, without a record for each."""
    columns = (offers.seconds, offers.best_seconds, offers.value, offers.ratio)
    if not all(np.isfinite(column).all() for column in columns) or np.isinf(offers.soonest_s).any():
        raise StoreError(f"{what} cannot be written as JSON: a number is not finite")
    names = [_text(queue) for queue in offers.queues]
    soonest = [f',"soonest_s":{s!r}}}' if s == s else "}" for s in offers.soonest_s.tolist()]
    rows = zip(names, *(column.tolist() for column in columns), soonest, strict=True)
    return ",".join([
        f'{{"queue":{name},"seconds":{seconds!r},"best_seconds":{best!r},"value":{value!r},"ratio":{ratio!r}{end}'
        for name, seconds, best, value, ratio, end in rows
    ])


@lru_cache(maxsize=4096)
def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
