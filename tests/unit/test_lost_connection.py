"""A Redis that goes away while a worker starts: Celery must see a connection to try again, not a fault."""

from __future__ import annotations

import pytest
from kombu import Connection

from balancer.errors import BalancerError, StoreError
from workers.reporter import as_lost_connection


def test_no_answer_is_to_celery_a_lost_connection() -> None:
    errors = Connection("redis://").recoverable_connection_errors
    with pytest.raises(errors, match="no answer"), as_lost_connection():
        raise StoreError("no answer from the broker")


def test_what_is_wrong_with_the_settings_stays_so() -> None:
    with pytest.raises(BalancerError, match="another Redis"), as_lost_connection():
        raise BalancerError("leads to another Redis")
