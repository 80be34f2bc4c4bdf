"""What was learned of durations as a document that JSON can hold, and back; part of the memory's.

Numbers are columns of text (`packed`): ten thousand workers and thousands of pairs are written after each
whole tick. Documents of records, as they were written before, are read, too. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.aptitude import Aptitude, Factors, Kept, frozen
from balancer.decide.document import decode, encode
from balancer.decide.estimate import Estimate, Estimates
from balancer.decide.kept import kept
from balancer.decide.packed import pack, pack_names, unpack, unpack_names
from balancer.decide.ran import ran
from balancer.decide.speeds import Speeds
from balancer.errors import StoreError

#: What of a pair is written, and as what.
NUMBERS: Final = {"seconds": "<f8", "count": "<i8", "spread": "<f8", "strikes": "<i8"}


#: The same of what single workers are better or worse at.
APTITUDES: Final = {"worker": "<i4", "profile": "<i4", "log": "<f8", "count": "<i4", "factor": "<f8"}


def to_document(estimates: Estimates) -> dict[str, Any]:
    """The estimates as JSON can say them."""
    rest: dict[str, Any] = encode(replace(
        estimates, pairs={}, worker_speed={}, worker_class={}, aptitudes={}, special={}))
    del rest["special"], rest["aptitudes"]
    if estimates.aptitudes:
        rest["aptitudes"] = _aptitudes_document(estimates)
    return {**rest, "pairs": _pairs_document(estimates), "workers": _workers_document(estimates)}


def _pairs_document(estimates: Estimates) -> dict[str, Any]:
    known, values = ran(estimates.pairs), estimates.pairs.values()
    numbers = {"seconds": known.seconds, "count": known.count,
               "spread": np.array([each.spread for each in values], dtype=np.float64),
               "strikes": np.array([each.strikes for each in values], dtype=np.float64)}
    return {"profiles": list(known.profiles), "classes": list(known.classes),
            "profile": pack(known.profile, "<i4"), "class": pack(known.place, "<i4"),
            **{name: pack(numbers[name], dtype) for name, dtype in NUMBERS.items()}}


def _aptitudes_document(estimates: Estimates) -> dict[str, Any]:
    """Row by row: places of a worker's name and a profile's, what was learned, and the factor that counts
    (1: none)."""
    names = tuple(estimates.aptitudes)
    profile: dict[str, int] = {}
    rows = [(place, profile.setdefault(name, len(profile)), one.log, one.count,
             estimates.special.get(worker, {}).get(name, 1.0))
            for place, (worker, own) in enumerate(estimates.aptitudes.items()) for name, one in own.items()]
    columns = zip(*rows, strict=True)
    return {"names": pack_names(names), "profiles": list(profile),
            **{name: pack(np.array(column, dtype=dtype), dtype)
               for (name, dtype), column in zip(APTITUDES.items(), columns, strict=True)}}


def _workers_document(estimates: Estimates) -> dict[str, Any]:
    names = tuple(estimates.worker_speed)
    classes, of_each = _classes(names, estimates.worker_class)
    return {"names": pack_names(names), "classes": list(classes), "class": pack(of_each, "<i4"),
            "speed": pack(np.array(list(estimates.worker_speed.values()), dtype=np.float64))}


@kept
def _classes(names: tuple[str, ...],
             known: Mapping[str, str]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """The classes of these workers and the place of each one's; that changes only as workers come."""
    of_each = [known.get(name, "") for name in names]
    classes = tuple(dict.fromkeys(of_each))
    place = {name: i for i, name in enumerate(classes)}
    return classes, np.array(list(map(place.__getitem__, of_each)), dtype=np.intp)


def from_document(document: Mapping[str, Any]) -> Estimates:
    """The estimates of a document; `StoreError` with the place and the reason if one is not right."""
    apart = "pairs", "workers", "aptitudes"
    pairs, workers, aptitudes = (document.get(name) for name in apart)
    rest: Estimates = decode(
        Estimates, {k: v for k, v in document.items() if k not in apart}, "estimates")
    found = replace(rest, pairs=MappingProxyType(_pairs([] if pairs is None else pairs)))
    if workers is not None:
        speeds, classes = _workers(workers)
        found = replace(found, worker_speed=Speeds(speeds), worker_class=MappingProxyType(classes))
    if aptitudes is not None:
        known, special = _aptitudes(aptitudes)
        found = replace(found, aptitudes=known, special=special)
    rates = [e.seconds for e in found.pairs.values()]
    least = min((*rates, *found.worker_speed.values(), *found.class_speed.values()), default=1.0)
    if not least > 0 or any(e.count < 1 for e in found.pairs.values()):
        raise StoreError("estimates: seconds, speeds and counts must be greater than 0")
    return found


def _pairs(document: Any) -> dict[tuple[str, str], Estimate]:
    if isinstance(document, list):
        return dict(_record(row, place) for place, row in enumerate(document))
    where = "estimates.pairs"
    profiles, classes = _names(document, "profiles", where), _names(document, "classes", where)
    profile = _places(document, "profile", where, None, len(profiles))
    count = len(profile)
    place = _places(document, "class", where, count, len(classes))
    columns = [_numbers(document, name, where, count, dtype) for name, dtype in NUMBERS.items()]
    return {
        (profiles[y], classes[h]): Estimate(seconds=seconds, count=runs, spread=spread, strikes=strikes)
        for y, h, seconds, runs, spread, strikes in zip(profile, place, *columns, strict=True)
    }


def _record(row: Any, place: int) -> tuple[tuple[str, str], Estimate]:
    """A pair as [profile, class, estimate]."""
    name, hardware_class, estimate = decode(tuple[str, str, Estimate], row, f"estimates.pairs[{place}]")
    return (name, hardware_class), estimate


def _workers(document: Any) -> tuple[dict[str, float], dict[str, str]]:
    where = "estimates.workers"
    classes = _names(document, "classes", where)
    names = unpack_names(document.get("names"), f"{where}.names")
    place = _places(document, "class", where, len(names), len(classes))
    speeds = _numbers(document, "speed", where, len(names), "<f8")
    return (dict(zip(names, speeds, strict=True)),
            dict(zip(names, [classes[i] for i in place], strict=True)))


def _aptitudes(document: Any) -> tuple[Kept, Factors]:
    where = "estimates.aptitudes"
    profiles = _names(document, "profiles", where)
    names = unpack_names(document.get("names"), f"{where}.names")
    worker = _places(document, "worker", where, None, len(names))
    profile = _places(document, "profile", where, len(worker), len(profiles))
    numbers = [_numbers(document, name, where, len(worker), APTITUDES[name])
               for name in ("log", "count", "factor")]
    known: dict[str, dict[str, Aptitude]] = {}
    special: dict[str, dict[str, float]] = {}
    for w, y, log, count, factor in zip(worker, profile, *numbers, strict=True):
        if not factor > 0 or count < 1:
            raise StoreError(f"{where}: factors and counts must be greater than 0")
        known.setdefault(names[w], {})[profiles[y]] = Aptitude(log=log, count=count)
        if factor != 1.0:
            special.setdefault(names[w], {})[profiles[y]] = factor
    return frozen(known), frozen(special)


def _names(document: Any, name: str, where: str) -> tuple[str, ...]:
    if not isinstance(document, Mapping):
        raise StoreError(f"{where}: an object was expected")
    names: tuple[str, ...] = decode(tuple[str, ...], document.get(name), f"{where}.{name}")
    return names


def _places(document: Mapping[str, Any], name: str, where: str, count: int | None, below: int) -> list[int]:
    places = _numbers(document, name, where, count, "<i4")
    if places and not 0 <= min(places) <= max(places) < below:
        raise StoreError(f"{where}.{name}: places from 0 to {below - 1} were expected")
    return places


def _numbers(document: Mapping[str, Any], name: str, where: str, count: int | None, dtype: str) -> list[Any]:
    values = unpack(document.get(name), (-1 if count is None else count,), f"{where}.{name}", dtype)
    if not np.isfinite(values).all():
        raise StoreError(f"{where}.{name}: finite numbers were expected")
    plain: list[Any] = values.tolist()
    return plain
