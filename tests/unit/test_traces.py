"""The recorded workloads: what is read, and what a row without a speed means."""

from __future__ import annotations

import pytest

from balancer.errors import BalancerError
from balancer.simulate.traces import JobType, TraceJob, load_throughputs, load_trace, single_gpu_first


def test_every_row_of_the_trace_is_there_in_order() -> None:
    trace = load_trace()
    assert len(trace) == 2000
    assert trace[0].job_type == JobType(name="Transformer (batch size 128)")
    assert trace[0].steps == 15486530
    assert [job.arrival_s for job in trace] == sorted(job.arrival_s for job in trace)


def test_speeds_are_those_of_the_table() -> None:
    speeds = load_throughputs()
    recommendation = JobType(name="Recommendation (batch size 512)")
    assert speeds.steps_per_s[recommendation]["cuda-K80"] == 32.859303
    assert speeds.classes(recommendation) == ("cuda-P100", "cuda-K80", "cuda-V100")
    assert speeds.slowness(JobType(name="A3C")) == pytest.approx(
        {"cuda-V100": 1.0, "cuda-P100": 7.175767 / 5.681346, "cuda-K80": 7.175767 / 3.438768}
    )


def test_a_throughput_of_zero_means_that_it_does_not_run_there() -> None:
    big = JobType(name="ResNet-50 (batch size 128)", scale=2)
    assert load_throughputs().classes(big) == ("cuda-V100", "cuda-P100")
    assert "cuda-K80" not in load_throughputs().slowness(big)
    assert big.profile == "ResNet-50 (batch size 128) on 2 GPUs"


def test_a_solo_run_is_steps_over_throughput() -> None:
    job = TraceJob(arrival_s=0, job_type=JobType(name="CycleGAN"), steps=4426.088)
    assert load_throughputs().best_s(job) == pytest.approx(1000.0)


def test_single_gpu_jobs_come_first_and_more_gpus_only_when_asked_for() -> None:
    speeds, trace = load_throughputs(), load_trace()
    few = single_gpu_first(trace, speeds, 300)
    many = single_gpu_first(trace, speeds, 1200)
    assert {job.job_type.scale for job in few} == {1}
    assert len(few) == 975
    assert {job.job_type.scale for job in many} > {1}
    assert all(speeds.classes(job.job_type) for job in many)


def test_more_jobs_than_there_are_is_refused_with_the_number_there_is() -> None:
    with pytest.raises(BalancerError, match=r"5000 jobs asked for; the trace holds \d+"):
        single_gpu_first(load_trace(), load_throughputs(), 5000)


def test_a_job_type_without_speeds_is_refused_by_name() -> None:
    unknown = TraceJob(arrival_s=0, job_type=JobType(name="GPT-9"), steps=1)
    with pytest.raises(BalancerError, match="GPT-9"):
        load_throughputs().best_s(unknown)
