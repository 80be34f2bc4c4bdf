"""What runs teach: durations by pair, speeds of workers and classes, and what a hint is worth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.estimate import (
    CLIP,
    Estimate,
    Estimates,
    learn_runs,
    seconds,
    speed_of,
)
from balancer.decide.hardware import observe_profiles
from balancer.decide.learned_document import from_document, to_document
from balancer.decide.packed import pack
from balancer.errors import StoreError
from balancer.model import HARDWARE_PROFILES, Needs, RunFinished, TaskProfile
from balancer.settings import Settings
from tests.unit.fleets import hardware, known, worker

V100, K80 = "cuda-V100", "cuda-K80"


def run(duration_s: float, *, profile: str = "a", on: str = V100, worker: str = "w0", size: float = 1.0,
        share: float | None = 1.0, outcome: str = "success") -> RunFinished:
    return RunFinished(at=0.0, task_id="t", profile=profile, worker=worker, hardware_class=on, epoch=0,
                       outcome=outcome, duration_s=duration_s, size=size, share=share)


def learned(runs: Iterable[RunFinished], before: Estimates | None = None, **hints: object) -> Estimates:
    return learn_runs(before or Estimates(), runs, Settings(hints=hints))


def asked(estimates: Estimates, on: str = V100, *, profile: TaskProfile | None = None,
          hints: dict[str, object] | None = None) -> float:
    wanted, given = profile or TaskProfile(name="a", task="a"), Settings(hints=hints or {})
    return seconds(estimates, wanted, hardware(on), given, HARDWARE_PROFILES)


def test_runs_are_averaged_and_scaled_by_size_and_share() -> None:
    estimates = learned([run(2.0), run(6.0, size=2.0), run(1.0, size=2.0, share=0.25)])
    assert estimates.pairs["a", V100].seconds == pytest.approx((2 + 3 + 2) / 3)
    assert estimates.pairs["a", V100].count == 3


@pytest.mark.parametrize(
    "bad",
    [
        run(9.0, share=None), run(9.0, share=0.001), run(9.0, outcome="failure"), run(9.0, outcome="retry"),
        run(math.nan), run(math.inf), run(-1.0), run(9.0, size=0.0), run(9.0, size=math.nan),
    ],
)
def test_runs_that_say_nothing_change_nothing(bad: RunFinished) -> None:
    before = learned([run(1.0)])
    assert learned([bad], before) == before


def test_a_part_that_left_at_a_checkpoint_counts() -> None:
    assert learned([run(3.0, share=0.5, outcome="moved")]).pairs["a", V100].seconds == pytest.approx(6.0)


def test_a_hung_run_moves_a_settled_estimate_little() -> None:
    before = learned([run(1.0)] * 20)
    after = learned([run(1000.0)], before)
    assert after.pairs["a", V100].seconds < 1.15
    assert learned([run(1.0)] * 3, after).pairs["a", V100].seconds < 1.12


def test_a_first_run_with_imports_is_forgotten_by_the_second() -> None:
    assert learned([run(30.0), run(1.0)]).pairs["a", V100].seconds == pytest.approx(1.0)


def test_a_change_that_stays_is_believed_after_three_runs() -> None:
    before = learned([run(1.0)] * 20)
    two, three = learned([run(10.0)] * 2, before), learned([run(10.0)] * 3, before)
    assert two.pairs["a", V100].seconds < CLIP
    # The worker was taken for slower meanwhile: its run is what matters.
    assert three.pairs["a", V100].seconds == pytest.approx(10.0)


def test_a_profile_of_wide_spread_is_not_cut_to_its_median() -> None:
    rng = np.random.default_rng(3)
    durations = np.exp(rng.normal(0, 0.8, 400))
    estimates = learned(run(float(d)) for d in durations)
    assert estimates.pairs["a", V100].seconds == pytest.approx(math.exp(0.32), rel=0.5)


def test_a_slowed_worker_shows_and_its_class_stays_fast() -> None:
    names = ["w0", "w1", "w2", "w3"]
    before = learned(run(1.0, worker=name) for _ in range(5) for name in names)
    slowed = [run(4.0 if name == "w3" else 1.0, worker=name) for _ in range(8) for name in names]
    after = learned(slowed, before)
    assert after.worker_speed["w3"] < 0.45
    assert after.worker_speed["w0"] == pytest.approx(1.0, abs=0.15)
    assert after.pairs["a", V100].seconds == pytest.approx(1.0, rel=0.2)
    recovered = learned((run(1.0, worker=name) for _ in range(25) for name in names), after)
    assert recovered.worker_speed["w3"] == pytest.approx(1.0, abs=0.1)


def test_a_whole_class_that_slows_is_a_slow_class() -> None:
    names = ["w0", "w1", "w2", "w3"]
    before = learned(run(1.0, worker=name) for _ in range(5) for name in names)
    after = learned((run(3.0, worker=name) for _ in range(10) for name in names), before)
    assert after.pairs["a", V100].seconds == pytest.approx(3.0, rel=0.1)
    assert all(speed == pytest.approx(1.0, abs=0.1) for speed in after.worker_speed.values())


def test_a_worker_that_changed_its_hardware_begins_anew() -> None:
    slow = learned([run(1.0, worker="w1")] * 5 + [run(1.0), run(4.0), run(4.0), run(4.0)])
    moved = learned([run(1.0, on=K80)], slow)
    assert moved.worker_class["w0"] == K80
    assert speed_of(moved, worker(V100, 0)) == 1.0


def test_a_hint_is_believed_until_runs_say_otherwise() -> None:
    profile = TaskProfile(name="a", task="a", expected_s={"cuda": 10.0})
    asked_after = [asked(learned([run(2.0)] * n), profile=profile) for n in (0, 1, 2, 3)]
    assert asked_after[0] == 10.0
    assert asked_after == sorted(asked_after, reverse=True)
    assert asked_after[2] == pytest.approx(0.6 * 10 + 0.4 * 2)
    assert asked_after[3] == pytest.approx(2.0)


def test_a_hint_that_is_nearly_right_counts_on_and_fades() -> None:
    profile = TaskProfile(name="a", task="a", expected_s={"cuda": 3.0})
    asked_after = [asked(learned([run(2.0)] * n), profile=profile) for n in (3, 12, 40)]
    assert asked_after[0] == pytest.approx(2.5)
    assert asked_after == sorted(asked_after, reverse=True)
    assert asked_after[2] == pytest.approx(2.0, rel=0.02)


def test_a_hint_within_the_spread_of_the_runs_is_not_refuted_by_them() -> None:
    profile = TaskProfile(name="a", task="a", expected_s={"cuda": 10.0})
    wide = Estimates(pairs={("a", V100): Estimate(seconds=2.0, count=3, spread=0.6)})
    assert asked(wide, profile=profile) == pytest.approx(6.0)


def test_a_first_run_with_imports_does_not_refute_a_hint() -> None:
    profile = TaskProfile(name="a", task="a", expected_s={"cuda": 1.0})
    for runs in ([run(60.0)], [run(60.0), run(1.1)], [run(60.0), run(1.1), run(1.0)]):
        estimates = learned(runs, a={"cuda": 1.0})
        assert asked(estimates, profile=profile) < 2.0


def test_the_operators_hint_comes_before_the_authors_and_the_class_before_the_kind() -> None:
    profile = TaskProfile(name="a", task="a", expected_s={"cuda": 10.0, K80: 20.0})
    assert asked(Estimates(), K80, profile=profile) == 20.0
    assert asked(Estimates(), K80, profile=profile, hints={"a": {"cuda": 5.0}}) == 5.0
    assert asked(Estimates(), K80, profile=profile, hints={"a": {"cuda": "often"}}) == 20.0


def test_a_pair_that_never_ran_follows_its_profile_and_the_classes_speeds() -> None:
    estimates = learned(
        [run(1.0, profile=p, on=V100) for p in "abc" for _ in range(5)]
        + [run(6.0, profile=p, on=K80, worker="w1") for p in "bc" for _ in range(5)]
    )
    assert asked(estimates, K80) == pytest.approx(6.0, rel=0.3)


def test_a_hint_elsewhere_helps_a_pair_without_one() -> None:
    profile = TaskProfile(name="a", task="a", expected_s={"cpu": 9.0})
    assert asked(Estimates(), V100, profile=profile) == pytest.approx(3.0)


def test_what_is_not_known_at_all_goes_by_the_table() -> None:
    assert asked(Estimates(), "cpu") / asked(Estimates(), V100) == pytest.approx(3.0)


def test_an_order_of_preference_counts_until_there_are_runs() -> None:
    wants = TaskProfile(name="a", task="a", needs=Needs(hardware=(K80, V100)))
    assert asked(Estimates(), K80, profile=wants) < asked(Estimates(), V100, profile=wants)
    ran = learned([run(1.0)] * 9 + [run(3.0, on=K80, worker="w1")] * 9)
    assert asked(ran, V100, profile=wants) < asked(ran, K80, profile=wants)


runs = st.builds(
    run, st.floats(1e-4, 1e5), profile=st.sampled_from("abc"), on=st.sampled_from([V100, K80, "cpu"]),
    worker=st.sampled_from(["w0", "w1", "w2"]), size=st.floats(0.01, 100), share=st.floats(0.05, 1.0),
)


@given(st.lists(runs, max_size=40))
def test_whatever_ran_estimates_stay_positive_and_survive_json(events: list[RunFinished]) -> None:
    estimates = learned(events)
    numbers = [*estimates.worker_speed.values(), *estimates.class_speed.values(), asked(estimates)]
    assert all(0 < number < math.inf for number in numbers)
    assert from_document(json.loads(json.dumps(to_document(estimates)))) == estimates


@pytest.mark.parametrize(
    "document",
    [
        {"pairs": {"a": 1}}, {"pairs": [["a", V100]]},
        {"pairs": [["a", V100, {"seconds": -1.0, "count": 1}]]},
        {"pairs": [["a", V100, {"seconds": math.nan, "count": 1}]]}, {"worker_speed": {"w": 0}}, {"newer": 1},
        {"workers": {"names": ["w"], "classes": ["cpu"], "class": pack(np.array([1]), "<i4"),
                     "speed": pack(np.ones(1))}},
        {"workers": {"names": ["w"], "classes": ["cpu"], "class": pack(np.array([0]), "<i4"),
                     "speed": pack(np.array([math.nan]))}},
        {"pairs": {"profiles": ["a"], "classes": [V100], "profile": "AAAAAA==", "class": "AAAAAA=="}},
    ],
)
def test_a_document_that_is_not_right_says_where(document: dict[str, object]) -> None:
    with pytest.raises(StoreError, match="estimates"):
        from_document(document)


def test_documents_of_records_are_read_as_they_were_written_before() -> None:
    found = from_document({
        "pairs": [["a", V100, {"seconds": 2.0, "count": 3, "spread": 0.1, "strikes": -1}]],
        "worker_speed": {"w": 0.5}, "worker_class": {"w": V100}, "class_speed": {V100: 3.0},
        "typical_s": 6.0})
    assert found == Estimates(
        pairs={("a", V100): Estimate(seconds=2.0, count=3, spread=0.1, strikes=-1)}, worker_speed={"w": 0.5},
        worker_class={"w": V100}, class_speed={V100: 3.0}, typical_s=6.0)
    assert from_document(json.loads(json.dumps(to_document(found)))) == found


def test_hardware_profiles_move_towards_what_was_observed() -> None:
    by_class = {V100: hardware(V100), "cpu": hardware("cpu")}
    estimates = known({p: {"cpu": 20.0, V100: 1.0} for p in "abcde"}, count=20)
    seen = observe_profiles(HARDWARE_PROFILES, estimates, by_class)
    assert 15.0 < seen["cuda"].performance_weight < 20.0
    assert seen["cuda"].observed_runs == 100
    assert seen["cpu"].performance_weight == 1.0
    assert seen["rocm"] == HARDWARE_PROFILES["rocm"]
    assert observe_profiles(seen, estimates, by_class) == seen
