"""The host's probe: what it derives, on fixtures, and once on the machine that runs the test."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from balancer.model import Hardware
from probes import rapl
from probes.host import HostProbe, busiest, cpu_model, hottest_package, rate

Sensor = namedtuple("Sensor", ["label", "current"])
CPU = Hardware(kind="cpu")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("before", "now", "elapsed", "expected"),
    [
        (10, 30, 2, 10.0),
        (None, 30, 2, None),
        (10, None, 2, None),
        (30, 10, 2, None),
        (10, 30, 0, None),
        (5, 5, 1, 0),
    ],
)
def test_a_rate_needs_two_samples(
    before: float | None, now: float | None, elapsed: float, expected: float | None
) -> None:
    assert rate(before, now, elapsed) == expected


def test_the_hottest_package_counts_and_no_other_chip() -> None:
    chips = {
        "coretemp": [Sensor("Package id 0", 61.0), Sensor("Package id 1", 64.0), Sensor("Core 3", 90.0)],
        "nvme": [Sensor("Composite", 99.0)],
        "acpitz": [Sensor("", 98.0)],
    }
    assert hottest_package(chips) == 64.0
    assert hottest_package({"cpu_thermal": [Sensor("", 48.0)]}) == 48.0
    assert hottest_package({"k10temp": [Sensor("Tctl", 70.0), Sensor("Tccd1", 80.0)]}) == 70.0


@pytest.mark.parametrize("current", [0.0, 255.0, -128.0, None])
def test_a_sensor_that_is_not_wired_is_not_believed(current: float | None) -> None:
    assert hottest_package({"coretemp": [Sensor("Package id 0", current)]}) is None
    assert hottest_package({}) is None


def package(root: Path, zone: str, name: str, energy: str, wraps_at: str = "262143000000") -> Path:
    folder = root / "sys/class/powercap" / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(energy)
    (folder / "max_energy_range_uj").write_text(wraps_at)
    return folder


def test_power_is_the_energy_of_whole_packages_over_time(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", "package-0", "100000")
    package(tmp_path, "intel-rapl:1", "package-1", "200000")
    package(tmp_path, "intel-rapl:2", "psys", "5")
    package(tmp_path, "intel-rapl:0:0", "core", "7")
    package(tmp_path, "intel-rapl-mmio:0", "package-0", "9")
    before = rapl.packages(tmp_path)
    assert set(before) == {"intel-rapl:0", "intel-rapl:1"}
    package(tmp_path, "intel-rapl:0", "package-0", "600000")
    package(tmp_path, "intel-rapl:1", "package-1", "700000")
    assert rapl.power_w(before, rapl.packages(tmp_path), 0.5) == pytest.approx(2.0)


def test_a_counter_that_starts_again_is_followed(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", "package-0", "262142900000")
    before = rapl.packages(tmp_path)
    package(tmp_path, "intel-rapl:0", "package-0", "400000")
    assert rapl.power_w(before, rapl.packages(tmp_path), 1.0) == pytest.approx(0.5)
    package(tmp_path, "intel-rapl:0", "package-0", "400000", wraps_at="")
    assert rapl.power_w(before, rapl.packages(tmp_path), 1.0) is None


def test_a_counter_that_may_have_started_again_more_than_once_says_nothing(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", "package-0", "100000")
    before = rapl.packages(tmp_path)
    package(tmp_path, "intel-rapl:0", "package-0", "20000100000")
    assert rapl.power_w(before, rapl.packages(tmp_path), 200.0) == pytest.approx(100.0)
    assert rapl.power_w(before, rapl.packages(tmp_path), 263.0) is None


def test_an_unreadable_counter_makes_power_unknown(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", "package-0", "900000")
    before = rapl.packages(tmp_path)
    (package(tmp_path, "intel-rapl:1", "package-1", "1") / "energy_uj").unlink()
    assert rapl.packages(tmp_path) == {}
    assert rapl.power_w(before, {}, 1.0) is None
    assert rapl.power_w({}, before, 1.0) is None


def test_the_model_is_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Fast CPU 9000\n")
    assert cpu_model(tmp_path) == "Fast CPU 9000"


def test_a_cgroup_limit_bounds_memory_and_cpu(tmp_path: Path) -> None:
    mount = tmp_path / "sys/fs/cgroup"
    mount.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    for name, text in {
        "cgroup.controllers": "cpu memory",
        "memory.max": "1000000",
        "memory.current": "750000",
        "cpu.max": "50000 100000",
        "cpu.stat": "usage_usec 0\n",
    }.items():
        (mount / name).write_text(text)
    clock = Clock()
    probe = HostProbe(tmp_path, clock)
    probe.read(CPU)
    (mount / "cpu.stat").write_text("usage_usec 1000000\n")
    clock.now += 2.0
    reading = probe.read(CPU)
    assert probe.devices()[0].memory_bytes == 1_000_000
    assert reading.memory_free_bytes == 250_000
    assert reading.memory is not None
    assert reading.memory >= 0.75
    assert reading.cpu == 1.0
    assert reading.pressure is None


def test_waiting_for_disks_is_that_of_the_innermost_group_that_tells_it(tmp_path: Path) -> None:
    mount, text = tmp_path / "sys/fs/cgroup", "some avg10={} avg60=0.00 avg300=0.00 total=1\n"
    (mount / "outer/own").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/pressure").mkdir()
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/own\n")
    (mount / "cgroup.controllers").write_text("cpu io")
    probe = HostProbe(tmp_path)
    for place, value in (("proc/pressure/io", 80.0), ("sys/fs/cgroup/outer/io.pressure", 40.0),
                         ("sys/fs/cgroup/outer/own/io.pressure", 12.5)):
        (tmp_path / place).write_text(text.format(value))
        assert probe.read(CPU).io == value / 100
    (mount / "outer/own/io.pressure").write_text("garbage")
    assert HostProbe(tmp_path).read(CPU).io is None


def test_without_pressure_the_busiest_disk_tells_how_busy_disks_are() -> None:
    before, now = {"sda": 1.0, "sdb": 5.0, "gone": 3.0}, {"sda": 1.5, "sdb": 5.25, "new": 9.0}
    assert busiest(before, now, 2.0) == 0.25
    assert busiest({}, now, 2.0) is None
    assert busiest(before, {"sda": 9.0}, 2.0) is None


def test_the_first_sample_of_this_machine_has_no_rates_and_all_samples_stay_in_range() -> None:
    probe = HostProbe()
    first, second = probe.read(CPU), probe.read(CPU)
    assert first.cpu is first.disk_bytes_per_s is first.network_bytes_per_s is first.power_w is None
    assert first.memory is not None
    assert 0 < first.memory <= 1
    assert first.memory_free_bytes is not None
    assert second.cpu is None or 0 <= second.cpu <= 1
    assert probe.devices()[0].kind == "cpu"
    assert probe.devices()[0].telemetry == "psutil"
