"""A worker that is better or worse at one profile than its class: what teaches it, what does not, its use."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from balancer.decide import aptitude
from balancer.decide.aptitude import Aptitude, Learner
from balancer.decide.estimate import Estimates, learn_runs, speed_of
from balancer.decide.learned_document import from_document, to_document
from balancer.decide.packed import pack
from balancer.errors import StoreError
from balancer.model import RunFinished, TaskProfile
from balancer.settings import Settings
from tests.unit.fleets import worker

V100, K80 = "cuda-V100", "cuda-K80"
NAMES = [f"{V100}-{i}" for i in range(6)]
GOOD = NAMES[0]

#: Seconds of each profile on a typical worker.
SECONDS = {"a": 1.0, "b": 4.0, "c": 2.0, "d": 8.0}


def run(name: str, profile: str, seconds: float, on: str = V100) -> RunFinished:
    return RunFinished(at=0.0, task_id="t", profile=profile, worker=name, hardware_class=on, epoch=0,
                       outcome="success", duration_s=seconds, size=1.0, share=1.0)


def rounds(count: int, factors: dict[tuple[str, str], float], before: Estimates | None = None, *,
           noise: float = 0.0, seed: int = 1, names: list[str] = NAMES) -> Estimates:
    """So many runs of each profile by each worker, at `factors` times the usual speed."""
    chance, estimates = Random(seed), before or Estimates()
    for _ in range(count):
        cases = [(name, profile) for name in names for profile in SECONDS]
        chance.shuffle(cases)
        runs = [run(n, p, SECONDS[p] / factors.get((n, p), 1.0) * chance.lognormvariate(0.0, noise))
                for n, p in cases]
        estimates = learn_runs(estimates, runs, Settings())
    return estimates


def at(estimates: Estimates, profile: str, name: str = GOOD) -> float:
    """A worker's speed at a profile, by the estimates."""
    return speed_of(estimates, worker(V100, NAMES.index(name)), TaskProfile(name=profile, task="t"))


SPECIAL = {(GOOD, "a"): 2.0, (GOOD, "b"): 0.6}


def test_a_specialist_is_known_by_its_runs_and_nobody_else_is() -> None:
    estimates = rounds(25, SPECIAL, noise=0.1)
    assert set(estimates.special) == {GOOD}
    assert set(estimates.special[GOOD]) == {"a", "b"}
    assert at(estimates, "a") == pytest.approx(2.0, rel=0.15)
    assert at(estimates, "b") == pytest.approx(0.6, rel=0.15)
    assert at(estimates, "c") == pytest.approx(1.0, rel=0.1)
    assert estimates.worker_speed[GOOD] == pytest.approx(1.0, rel=0.1)
    assert estimates.pairs["a", V100].seconds == pytest.approx(1.0, rel=0.1)


def test_it_counts_from_the_fifth_run_on() -> None:
    estimates = rounds(10, {}, names=NAMES[1:])
    counted = []
    for _ in range(aptitude.RUNS_LEAST):
        estimates = learn_runs(estimates, [run(GOOD, "a", SECONDS["a"] / 2), run(GOOD, "b", SECONDS["b"])],
                               Settings())
        counted.append(GOOD in estimates.special)
    assert counted == [False] * (aptitude.RUNS_LEAST - 1) + [True]


def test_a_pair_that_is_young_itself_tells_nothing_of_single_workers() -> None:
    young = learn_runs(Estimates(), [run(name, "a", 1.0) for name in NAMES[:3]], Settings())
    assert young.aptitudes == {}
    assert learn_runs(young, [run(GOOD, "a", 1.0)], Settings()).aptitudes.keys() == {GOOD}


@pytest.mark.parametrize("seed", range(5))
def test_chance_makes_no_specialists(seed: int) -> None:
    assert rounds(40, {}, noise=0.25, seed=seed).special == {}


def test_a_worker_that_is_faster_at_everything_is_fast_and_no_specialist() -> None:
    estimates = rounds(20, {(GOOD, profile): 2.0 for profile in SECONDS})
    assert estimates.special == {}
    assert estimates.worker_speed[GOOD] == pytest.approx(2.0, rel=0.1)


def test_hung_runs_and_a_first_run_with_its_imports_make_no_specialist() -> None:
    before = rounds(10, {})
    slow_once = learn_runs(before, [run(GOOD, "a", 1000.0)], Settings())
    assert slow_once.special == {}
    came = [run("new", profile, 4 * s) for profile, s in SECONDS.items()]
    after = rounds(6, {}, learn_runs(before, came, Settings()), names=[*NAMES, "new"])
    assert after.special == {}


def test_who_is_typical_again_is_forgotten_as_a_specialist() -> None:
    before = rounds(15, SPECIAL)
    assert GOOD in before.special
    assert rounds(30, {}, before).special == {}


def test_a_worker_alone_is_its_class() -> None:
    assert rounds(20, {(GOOD, "a"): 2.0}, names=[GOOD]).aptitudes == {}


def test_a_change_of_code_begins_the_pair_and_its_specialists_anew() -> None:
    before = rounds(15, SPECIAL)
    after = learn_runs(before, [run(name, "a", 20.0) for name in NAMES[1:4]], Settings())
    assert after.pairs["a", V100].count == 1
    assert all("a" not in own for own in (*after.aptitudes.values(), *after.special.values()))
    assert "b" in after.special[GOOD]


def test_a_worker_on_other_hardware_begins_anew() -> None:
    before = rounds(15, SPECIAL)
    after = learn_runs(before, [run(GOOD, "a", 5.0, on=K80)], Settings())
    assert GOOD not in after.aptitudes
    assert GOOD not in after.special
    assert speed_of(after, worker(V100, 0), TaskProfile(name="a", task="t")) == 1.0


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rounds(15, SPECIAL)
    monkeypatch.setattr(aptitude, "KEPT", 20)
    after = learn_runs(before, [run(NAMES[3], "c", 2.0)], Settings())
    assert after.special == before.special
    assert sum(map(len, after.aptitudes.values())) <= 18
    young = rounds(7, SPECIAL)
    crowded = learn_runs(young, [run(NAMES[3], "c", 2.0)], Settings())
    assert list(crowded.aptitudes)[-1] == NAMES[3]
    assert NAMES[0] not in crowded.aptitudes
    assert crowded.special.keys() <= crowded.aptitudes.keys()


def test_a_note_tells_when_the_bound_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    estimates = rounds(7, {})
    assert aptitude.crowded(estimates.aptitudes) == ()
    monkeypatch.setattr(aptitude, "KEPT", 25)
    (note,) = aptitude.crowded(estimates.aptitudes)
    assert "known of 24 pairs of the 25 kept at most" in note


def test_what_was_learned_before_stays_as_it_was() -> None:
    before = rounds(15, SPECIAL)
    kept, special = {w: dict(own) for w, own in before.aptitudes.items()}, dict(before.special[GOOD])
    rounds(5, {}, before)
    assert before.aptitudes == kept
    assert before.special[GOOD] == special


def test_one_run_speaks_for_a_factor_of_two_at_most() -> None:
    known = Learner({}, {})
    known.learn("w", "a", 9.0, 0.1)
    kept, _ = known.frozen({"w": V100})
    assert kept["w"]["a"] == Aptitude(log=pytest.approx(math.log(2) / 3), count=1)


def test_it_survives_its_document_and_older_documents_are_read() -> None:
    estimates = rounds(15, SPECIAL)
    document = json.loads(json.dumps(to_document(estimates)))
    assert from_document(document) == estimates
    del document["aptitudes"]
    assert from_document(document) == replace(estimates, aptitudes={}, special={})
    assert "aptitudes" not in to_document(Estimates())


@pytest.mark.parametrize(("column", "value"), [
    ("worker", pack(np.array([99] * 24), "<i4")), ("log", "?"), ("profiles", 3),
    ("factor", pack(np.zeros(24))), ("count", pack(np.zeros(24), "<i4")),
])
def test_a_document_that_is_not_right_is_refused(column: str, value: object) -> None:
    document = to_document(rounds(15, SPECIAL))
    document["aptitudes"][column] = value
    with pytest.raises(StoreError, match=r"estimates\.aptitudes"):
        from_document(document)
