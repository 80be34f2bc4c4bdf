"""The twin beside real workers: the same jobs end on the same hardware. How long it takes is the bench's."""

from __future__ import annotations

from tests.bench.peers.work import Shape, work
from tests.bench.twin import alike, placed, real, simulated

SMALL = Shape(jobs=36, workers=6, bound_s=4.0)


def test_static_places_every_job_as_the_twin_does() -> None:
    scenario = work(1, SMALL, arriving=False)
    took = real(scenario, "static")
    assert placed(took) == placed(simulated(scenario, "static"))
    assert {span.task_id for span in took.spans if span.done} == {job.task_id for job in scenario.jobs}


def test_priced_places_most_jobs_as_the_twin_does() -> None:
    scenario = work(1, SMALL, arriving=False)
    took, twin = real(scenario, "priced"), simulated(scenario, "priced")
    # By a blind split over the three classes a third would be alike; a busy machine is late with some.
    assert alike(took, twin) >= 0.6
    assert sum(placed(took).values()) == len(scenario.jobs)
