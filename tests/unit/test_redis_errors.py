"""Which errors of Redis pass: as redis-py raises them, as pipelines and scripts tell them."""

from __future__ import annotations

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from balancer.adapters.redis_errors import PatientRetry, passes, refusal_as_loss, refused_for_now

FULL = "command not allowed when used memory > 'maxmemory'."

PASSING = [
    OutOfMemoryError(FULL),  # redis-py takes the code out of the text
    OutOfMemoryError(f"Command # 1 (LLEN lane) of pipeline caused error: {FULL}"),
    ReadOnlyError("You can't write against a read only replica."),
    ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk."),
    ResponseError("NOREPLICAS Not enough good replicas to write."),
    ResponseError("Command # 2 (SET a b) of pipeline caused error: NOREPLICAS Not enough good replicas"),
    ResponseError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
    ResponseError(f"Error running script (call to f_1): @user_script:23: @user_script: 23: -OOM {FULL}"),
]
LASTING = [
    ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    ResponseError("unknown command 'BUSY'"),
    ResponseError("Command # 1 (SET OOM BUSY ) of pipeline caused error: WRONGTYPE Operation"),
    ValueError("OOM "),
]


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_redis_refuses_for_now_passes(error: Exception) -> None:
    assert refused_for_now(error)
    assert passes(error)


@pytest.mark.parametrize("error", LASTING, ids=str)
def test_what_will_be_refused_again_does_not(error: Exception) -> None:
    assert not refused_for_now(error)
    assert not passes(error)


AWAY = [RedisConnectionError("gone"), RedisTimeoutError("late"), OSError(111, "no")]


@pytest.mark.parametrize("error", AWAY, ids=str)
def test_a_redis_that_is_away_passes_and_has_refused_nothing(error: Exception) -> None:
    assert passes(error)
    assert not refused_for_now(error)


class Refusing:
    """Raises these errors one after another, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_refusal_is_told_as_a_lost_connection_and_nothing_else_is() -> None:
    with pytest.raises(RedisConnectionError, match="for now: NOREPLICAS"), refusal_as_loss():
        raise ResponseError("NOREPLICAS Not enough good replicas to write.")
    with pytest.raises(ResponseError, match="WRONGTYPE"), refusal_as_loss():
        raise ResponseError("WRONGTYPE Operation")


def test_the_retry_of_a_connection_asks_again_until_redis_does_it() -> None:
    refusing, closed = Refusing(*PASSING), list[Exception]()
    assert PatientRetry(NoBackoff(), -1).call_with_retry(refusing, closed.append) == "done"
    assert refusing.asked == len(PASSING) + 1
    assert len(closed) == len(PASSING)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        PatientRetry(NoBackoff(), -1).call_with_retry(Refusing(LASTING[0]), closed.append)
