"""Sampling: merging sources, surviving their failures, emulation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields

import pytest

from balancer.model import Hardware, Reading
from probes.base import ProbeError
from probes.declared import DeclaredProbe
from probes.emulated import EmulatedProbe, power_w
from probes.sample import NODE, Sampler, Source, sampler_for

CUDA = Hardware(kind="cuda", index=0)
K80 = Hardware(
    kind="cuda",
    model="K80",
    emulated=True,
    telemetry="emulated",
    labels=(("power_w", "300"), ("idle_w", "50")),
)


class Told:
    """A probe that answers what a function gives, or raises what it raises."""

    def __init__(self, answer: Callable[[], Reading], name: str = "told") -> None:
        self.name = name
        self._answer = answer

    def devices(self) -> list[Hardware]:
        return []

    def read(self, hardware: Hardware) -> Reading:
        return self._answer()


class Failing:
    """Answers raise in turn, then 50 %."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    def __call__(self) -> Reading:
        if self._errors:
            raise self._errors.pop(0)
        return Reading(gpu=0.5)


def test_the_device_replaces_the_host_and_unknown_replaces_nothing() -> None:
    host = Told(lambda: Reading(cpu=0.2, memory=0.3, temperature_celsius=70.0))
    device = Told(lambda: Reading(gpu=0.9, temperature_celsius=50.0, memory=None))
    reading = Sampler(CUDA, [Source(probe=host), Source(probe=device)]).sample()
    assert reading == Reading(cpu=0.2, memory=0.3, gpu=0.9, temperature_celsius=50.0)


def test_the_hosts_heat_and_power_are_not_passed_off_as_the_devices() -> None:
    host = Told(lambda: Reading(cpu=0.2, temperature_celsius=97.0, power_w=200.0))
    reading = Sampler(CUDA, [Source(probe=host, quantities=NODE), Source(probe=Told(Reading))]).sample()
    assert reading == Reading(cpu=0.2)


def test_a_probe_that_raises_is_logged_once_and_absent(caplog: pytest.LogCaptureFixture) -> None:
    host = Told(lambda: Reading(cpu=0.2))
    failing = Failing(ProbeError("GPU is lost"), ProbeError("GPU is lost again"), ValueError("odd"))
    sampler = Sampler(CUDA, [Source(probe=Told(failing, "nvml")), Source(probe=host)])
    with caplog.at_level(logging.WARNING, logger="probes"):
        readings = [sampler.sample() for _ in range(5)]
    assert readings[:3] == [Reading(cpu=0.2)] * 3
    assert readings[3:] == [Reading(cpu=0.2, gpu=0.5)] * 2
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "nvml" in messages[0]
    assert "GPU is lost" in messages[0]
    assert "odd" in messages[1]


@pytest.mark.parametrize(("busy", "watts"), [(0.0, 50.0), (0.5, 175.0), (1.0, 300.0), (None, None)])
def test_an_emulated_device_is_read_from_what_runs(busy: float | None, watts: float | None) -> None:
    reading = sampler_for(K80, lambda: busy).sample()
    assert reading == Reading(gpu=busy, power_w=watts)


def test_nothing_of_the_host_is_in_an_emulated_reading() -> None:
    reading = sampler_for(K80).sample()
    assert [f.name for f in fields(reading) if getattr(reading, f.name) is not None] == []
    on_cpu = Hardware(kind="cpu", emulated=True)
    assert sampler_for(on_cpu, lambda: 0.25).sample() == Reading(cpu=0.25)
    assert power_w(on_cpu, 0.25) is None


@pytest.mark.parametrize("busy", [-0.1, 1.5, float("nan")])
def test_a_busy_share_out_of_range_is_refused(busy: float) -> None:
    with pytest.raises(ProbeError, match="between 0 and 1"):
        EmulatedProbe(lambda: busy).read(K80)
    assert sampler_for(K80, lambda: busy).sample() == Reading()


@pytest.mark.parametrize("kind", ["mps", "openvino", "qnn", "webnn", "webgpu"])
def test_a_declared_device_has_the_hosts_values_only(kind: str) -> None:
    hardware = Hardware(kind=kind)  # type: ignore[arg-type]
    reading = sampler_for(hardware).sample()
    assert reading.memory is not None
    assert reading.gpu is reading.gpu_memory is reading.temperature_celsius is reading.power_w is None


def test_apples_gpu_is_found_on_its_macs_only() -> None:
    assert [d.kind for d in DeclaredProbe("mps", "Darwin", "arm64").devices()] == ["mps"]
    assert DeclaredProbe("mps", "Darwin", "x86_64").devices() == []
    assert DeclaredProbe("mps", "Linux", "aarch64").devices() == []
    assert DeclaredProbe("qnn", "Darwin", "arm64").devices() == []


def test_this_machines_processor_can_be_sampled() -> None:
    sampler = sampler_for(Hardware(kind="cpu"))
    reading = sampler.sample()
    assert reading.memory is not None
    assert reading.gpu is None
