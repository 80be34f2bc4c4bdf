"""Errors of Redis after which the same command may well succeed: it is away, full, starting, cannot write.

Where a script is refused so, nothing of it was done: Redis refuses its first write or none
(https://redis.io/docs/latest/develop/programmability/eval-intro/). Used by the workers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.exceptions import BusyLoadingError, MasterDownError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

#: Answers that redis-py has a class for; it takes their code out of the text.
CLASSES: Final = (BusyLoadingError, MasterDownError, OutOfMemoryError, ReadOnlyError)

#: Codes of errors that pass, at the beginning, in a pipeline's error, or in that of a script (Redis 6).
CODES: Final = re.compile(
    r"(?:^|caused error: |-)(?:LOADING|OOM|MISCONF|READONLY|MASTERDOWN|NOREPLICAS|BUSY|TRYAGAIN) "
)


def refused_for_now(error: BaseException) -> bool:
    """Whether Redis answered that it cannot do this now."""
    return isinstance(error, CLASSES) or (
        isinstance(error, ResponseError) and CODES.search(str(error)) is not None)


def passes(error: BaseException) -> bool:
    """Whether Redis was away, or answered that it cannot do this now."""
    return isinstance(error, RedisConnectionError | RedisTimeoutError | OSError) or refused_for_now(error)


@contextmanager
def refusal_as_loss() -> Iterator[None]:
    """Where Redis refuses for now, a `ConnectionError` of redis-py in its place, which every
    caller knows to be worth another try."""
    try:
        yield
    except ResponseError as error:
        if refused_for_now(error):
            raise RedisConnectionError(f"Redis refuses this for now: {error}") from error
        raise


class PatientRetry(Retry):
    """redis-py's retry, which also tries again what Redis refuses for now."""

    def call_with_retry(self, do: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        def attempt() -> Any:
            with refusal_as_loss():
                return do()

        return super().call_with_retry(attempt, *args, **kwargs)
