"""The pairs of a profile and a hardware class that ran, as columns: made once of each set of estimates.

Read by `class_speed` and `hardware` after each batch of runs, and by `pairs` for prices. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from balancer.decide.kept import kept

if TYPE_CHECKING:
    from balancer.decide.estimate import Estimate

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ran:
    """Of each pair (N,) the place of its profile among `profiles` and of its class among `classes`, its
    seconds and its runs."""

    profiles: tuple[str, ...]
    classes: tuple[str, ...]
    profile: Places
    place: Places
    seconds: Floats
    count: Floats


@kept
def ran(pairs: Mapping[tuple[str, str], Estimate]) -> Ran:
    """The columns of `pairs`, in their order; names in the order in which they come first."""
    # Two passes: `zip(*pairs)` makes an iterator of each pair, five times as slow.
    names, kinds = [name for name, _ in pairs], [kind for _, kind in pairs]
    profiles, classes = tuple(dict.fromkeys(names)), tuple(dict.fromkeys(kinds))
    return Ran(
        profiles=profiles, classes=classes, profile=_places(names, profiles), place=_places(kinds, classes),
        seconds=np.array([each.seconds for each in pairs.values()], dtype=np.float64),
        count=np.array([each.count for each in pairs.values()], dtype=np.float64))


def _places(names: list[str], unlike: tuple[str, ...]) -> Places:
    """Where each name is in `unlike`."""
    at = dict(zip(unlike, range(len(unlike)), strict=True))
    return np.array(list(map(at.__getitem__, names)), dtype=np.intp)
