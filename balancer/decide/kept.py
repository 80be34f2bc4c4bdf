"""What was worked out last, given again for the very same inputs: several steps of a turn ask the same.

Inputs are told apart by identity, as records never change: ten thousand workers cost one comparison. Pure:
a step answers as it would without this, only sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from operator import is_
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Answers kept of each step: those of this turn's two sets of estimates, before and after its progress.
LAST: Final = 2


def kept(step: Callable[P, T]) -> Callable[P, T]:
    """`step` with its last answers kept; a tuple is the same when each of its parts is."""
    last: list[tuple[tuple[Any, ...], T]] = []

    @wraps(step)
    def again(*args: P.args, **named: P.kwargs) -> T:
        asked = (*args, *named.values())
        for inputs, answer in list(last):
            if len(inputs) == len(asked) and all(map(_same, inputs, asked)):
                return answer
        answer = step(*args, **named)
        last[:] = [(asked, answer), *last[:LAST - 1]]
        return answer

    return again


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    both = type(one) is tuple and type(other) is tuple and len(one) == len(other)
    return both and all(map(is_, one, other))
