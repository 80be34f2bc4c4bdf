"""What the load will be, and how good earlier forecasts were: step 4 of the tick.

Four forecasters (`forecasters`, `seasons`) look at the whole fleet's load and at every worker's; each
subject is told the one that has erred less so far (`tracks`). A forecast is kept until its time has come and
only then judged. All of it is columns over one roster of subjects: ten thousand workers are some arrays.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from balancer.decide import forecasters, seasons, tracks
from balancer.decide.columnar import Places
from balancer.decide.foreseen import METHODS, SYSTEM, Batch, Floats, Foreseen, Judged, Verdicts, of_told
from balancer.decide.kept import kept as remembered
from balancer.decide.seasons import Seasons
from balancer.decide.series import Series
from balancer.decide.tracks import Track, Tracks
from balancer.errors import StoreError
from balancer.model import SystemLoad
from balancer.settings import Settings

#: Records that are looked at, evenly over the performance window; more make a line no better.
DEPTH: Final = 32

#: Batches of forecasts that wait to be judged, at least and at most, and forecasts in all of them. Where
#: ticks are so frequent that more would wait, batches are kept evenly over the time until they are due.
FEWEST_BATCHES: Final = 8
MOST_BATCHES: Final = 512
MOST_PENDING: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """All that is kept between ticks, of the subjects `names` in this order (the system first)."""

    names: tuple[str, ...] = ()
    tracks: Tracks = field(default_factory=lambda: tracks.none(0))
    seasons: Seasons = field(default_factory=lambda: seasons.none(0))
    pending: tuple[Batch, ...] = ()

    def track(self, name: str) -> Track | None:
        """How the forecasts of a subject did."""
        return self.tracks.track(self.names.index(name)) if name in self.names else None

    def of(self, names: tuple[str, ...]) -> Foresight:
        """The same of these subjects: who left is forgotten, who is new begins."""
        if names == self.names:
            return self
        place = {name: row for row, name in enumerate(self.names)}
        rows: Places = np.array([place.get(name, -1) for name in names], dtype=np.intp)
        return Foresight(names=names, tracks=self.tracks.taken(rows), seasons=self.seasons.taken(rows),
                         pending=tuple(batch.taken(rows) for batch in self.pending))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Records:
    """The loads of the performance window: `times` (s, ascending), the fleet's averages `system` (times,) and
    the workers' as `series` at the same times."""

    times: Sequence[float]
    system: Floats
    series: Series

    @classmethod
    def of(cls, loads: Sequence[SystemLoad], workers: Mapping[str, Sequence[float | None]]) -> Records:
        """The records that the memory keeps."""
        return cls(times=[record.at for record in loads], series=Series.of(workers, len(loads)),
                   system=np.array([record.average for record in loads], dtype=np.float64))

    @property
    def names(self) -> tuple[str, ...]:
        return _with_system(self.series.names)

    def at(self, places: Sequence[int]) -> Floats:
        """The loads (places, names), NaN where somebody was not seen."""
        found = np.empty((len(places), len(self.series) + 1))
        found[:, 0] = self.system[list(places)]
        run = bool(places) and places[-1] - places[0] == len(places) - 1
        found[:, 1:] = self.series.table[:, slice(places[0], places[-1] + 1) if run else list(places)].T
        return found

    def means(self, places: Sequence[int]) -> Floats:
        """The means (names,) over some records of what was seen."""
        values = self.at(places)
        whole: Floats = values.sum(axis=0) / len(places)
        if np.isfinite(whole).all():
            return whole
        there = np.isfinite(values)
        count = there.sum(axis=0)
        means: Floats = np.where(there, values, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)
        return means


@remembered
def _with_system(names: tuple[str, ...]) -> tuple[str, ...]:
    """Everybody of whom something is foreseen, the same object as long as these are."""
    return (SYSTEM, *names)


def look_ahead(kept: Foresight, records: Records, settings: Settings) -> tuple[Foresight, Foreseen, Verdicts]:
    """One tick: what came due is judged, everybody is foreseen, and that is kept until it is due."""
    kept, verdicts = judge(kept.of(records.names), records, settings)
    kept = replace(kept, seasons=_seasons(kept.seasons, records, settings))
    made = foresee(kept, records, settings)
    return keep(kept, made), made, verdicts


def judge(kept: Foresight, records: Records, settings: Settings) -> tuple[Foresight, Verdicts]:
    """Hold every forecast that is due against what came; the rest goes on waiting.

    The truth is read off the series between the two records around the due time. A forecast whose
    subject was not seen then (a worker that left, a balancer that slept) is dropped unjudged.
    """
    now, past, judged = records.times[-1], kept.tracks, []
    due = [batch for batch in kept.pending if batch.due_at <= now]
    if not due:
        return kept, Verdicts()
    for batch in due:
        truth = _truth(batch.due_at, records, settings)
        if truth is not None:
            judged.append(Judged(forecasts=Foreseen(names=kept.names, batch=batch), truth=truth))
            past = tracks.learned(past, judged[-1])
    waiting = tuple(batch for batch in kept.pending if batch.due_at > now)
    return replace(kept, tracks=past, pending=waiting), Verdicts(judged)


def foresee(kept: Foresight, records: Records, settings: Settings) -> Foreseen:
    """A forecast of every subject that is there, `prediction_window` minutes after the last record.

    Of a subject with fewer than `MIN_POINTS` records nothing is foreseen.
    """
    ahead_s, at = 60.0 * settings.prediction_window, records.times[-1]
    places = _looked_at(len(records.times))
    x = np.array([records.times[place] for place in places], dtype=np.float64)
    by_records = forecasters.guesses(x, records.at(places), ahead_s)
    found = (*by_records, seasons.guess(kept.seasons, at, ahead_s))
    values = np.empty((len(METHODS), len(kept.names)), dtype=np.float32)
    for row, guess in enumerate(found):
        values[row] = guess.value
    values[-1, np.isnan(values[0])] = np.nan
    np.clip(values, 0.0, 1.0, out=values)
    told = tracks.preferred(kept.tracks, values)
    given = of_told(told, [guess.half for guess in found])
    given[np.isnan(given)] = 0.0
    halves = tracks.widened(kept.tracks, given)
    batch = Batch(made_at=at, due_at=at + ahead_s, values=values, told=told, given=given, halves=halves,
                  confidences=tracks.confidences(kept.tracks, halves))
    return Foreseen(names=kept.names, batch=batch)


def keep(kept: Foresight, made: Foreseen) -> Foresight:
    """With the forecasts `made` among those that wait, unless enough of them wait for about the same time."""
    if not len(made):
        return kept
    batch = made.batch
    most = min(MOST_BATCHES, max(FEWEST_BATCHES, MOST_PENDING // len(kept.names)))
    apart_s = (batch.due_at - batch.made_at) / most
    if kept.pending and batch.made_at - kept.pending[-1].made_at < apart_s * (1 - 1e-9):
        return kept
    return replace(kept, pending=(*kept.pending, batch))


def to_document(kept: Foresight, names: Sequence[str]) -> dict[str, Any]:
    """What is kept as JSON can say it. `names` are the workers that the document names anyhow."""
    known = kept.names == (SYSTEM, *names)
    return {
        "methods": list(METHODS), "names": None if known else list(kept.names),
        "tracks": kept.tracks.to_document(), "seasons": kept.seasons.to_document(),
        "pending": [batch.to_document() for batch in kept.pending],
    }


def from_document(document: Any, names: Sequence[str], where: str) -> Foresight:
    """What `to_document` wrote. Forecasts by other methods than today's are forgotten: they are soon made
    anew. Raises `StoreError` where something does not fit."""
    if not isinstance(document, Mapping):
        raise StoreError(f"{where}: an object was expected")
    if document.get("methods") != list(METHODS):
        return Foresight()
    told = document.get("names")
    if told is not None and not (isinstance(told, list) and all(isinstance(name, str) for name in told)):
        raise StoreError(f"{where}.names: a list of names was expected")
    whose = (SYSTEM, *names) if told is None else tuple(told)
    sizes = {"m": len(METHODS), "n": len(whose), "b": -1 if whose else 0}
    pending = document.get("pending")
    if not isinstance(pending, list):
        raise StoreError(f"{where}.pending: a list was expected")
    return Foresight(
        names=whose,
        tracks=Tracks.from_document(document.get("tracks"), sizes, f"{where}.tracks"),
        seasons=Seasons.from_document(document.get("seasons"), sizes, f"{where}.seasons"),
        pending=tuple(Batch.from_document(one, sizes, f"{where}.pending[{place}]")
                      for place, one in enumerate(pending)),
    )


def _seasons(history: Seasons, records: Records, settings: Settings) -> Seasons:
    """The coarse history, longer by the buckets that are over, and searched for periods."""
    longer = seasons.longer(history, records.times, records.means, settings)
    crowd = len(records.names) > seasons.SEARCHED  # whom nobody had the time to search yet
    return seasons.searched(longer) if crowd or longer is not history else longer


def _looked_at(count: int) -> list[int]:
    """At most `DEPTH` places of so many records, evenly, the last one among them."""
    step = -(-count // DEPTH) or 1
    return list(range((count - 1) % step, count, step))


def _truth(at: float, records: Records, settings: Settings) -> Floats | None:
    """The loads (names,) at time `at` (s), between the records around it; `None` where nobody looked then."""
    widest_gap = max(2.0 * settings.check_interval, 30.0 * settings.prediction_window)
    times = records.times
    place = bisect_left(times, at)
    if place == len(times):
        return None
    if times[place] == at or place == 0:
        return records.at([place])[0] if times[place] - at <= widest_gap else None
    gap = times[place] - times[place - 1]
    if gap > widest_gap:
        return None
    before, after = records.at([place - 1, place])
    between: Floats = before + (after - before) * ((at - times[place - 1]) / gap)
    return between
