"""AMD GPUs, read on fixture trees of sysfs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from balancer.model import Hardware, Reading
from probes.base import ProbeError
from probes.sysfs_gpu import SysfsGpuProbe, rocm_runs

GIB = 2**30

FILES = {
    "vendor": "0x1002",
    "device": "0x740f",
    "product_name": "AMD Instinct MI210",
    "gpu_busy_percent": "37",
    "mem_info_vram_total": str(64 * GIB),
    "mem_info_vram_used": str(16 * GIB),
    "hwmon/hwmon3/temp1_input": "58000",
    "hwmon/hwmon3/power1_average": "120500000",
}


def card(root: Path, address: str, *entries: str, **changed: str | None) -> Path:
    """A card at a PCI address, shown as `entries` of /sys/class/drm; `None` leaves a file out."""
    device = root / "sys/devices/pci0000:00" / address
    for name, text in {**FILES, **changed}.items():
        if text is not None:
            (device / name).parent.mkdir(parents=True, exist_ok=True)
            (device / name).write_text(f"{text}\n" if text else "")
    for entry in entries:
        folder = root / "sys/class/drm" / entry
        folder.mkdir(parents=True)
        (folder / "device").symlink_to(device)
    return device


def rocm(index: int = 0) -> Hardware:
    return Hardware(kind="rocm", index=index)


def test_a_card_is_described_and_read(tmp_path: Path) -> None:
    card(tmp_path, "0000:03:00.0", "card0", "renderD128", "card0-DP-1")
    probe = SysfsGpuProbe(tmp_path, {})
    assert probe.devices() == [
        Hardware(
            kind="rocm", model="AMD Instinct MI210", index=0, gpu_memory_bytes=64 * GIB, telemetry="sysfs"
        )
    ]
    assert probe.read(rocm()) == Reading(
        gpu=0.37,
        gpu_memory=0.25,
        gpu_memory_free_bytes=48 * GIB,
        temperature_celsius=58.0,
        power_w=120.5,
    )


def test_cards_are_counted_once_and_ordered_by_address(tmp_path: Path) -> None:
    card(tmp_path, "0000:83:00.0", "card0", "renderD129", product_name="far")
    card(tmp_path, "0000:03:00.0", "card1", "renderD128", product_name="near")
    card(tmp_path, "0000:c3:00.0", "renderD130", product_name="headless")
    card(tmp_path, "0000:00:02.0", "card2", vendor="0x8086", product_name="other")
    models = [device.model for device in SysfsGpuProbe(tmp_path, {}).devices()]
    assert models == ["near", "far", "headless"]
    hidden = SysfsGpuProbe(tmp_path, {"HIP_VISIBLE_DEVICES": "2,0"})
    assert [device.model for device in hidden.devices()] == ["headless", "near"]
    assert SysfsGpuProbe(tmp_path, {"ROCR_VISIBLE_DEVICES": ""}).devices() == []


@pytest.mark.parametrize(
    ("name", "text", "field"),
    [
        ("gpu_busy_percent", None, "gpu"),
        ("gpu_busy_percent", "", "gpu"),
        ("gpu_busy_percent", "garbage", "gpu"),
        ("gpu_busy_percent", "65535", "gpu"),
        ("mem_info_vram_used", "", "gpu_memory"),
        ("mem_info_vram_total", "0", "gpu_memory"),
        ("hwmon/hwmon3/temp1_input", "", "temperature_celsius"),
        ("hwmon/hwmon3/power1_average", None, "power_w"),
    ],
)
def test_one_quantity_that_cannot_be_read_is_absent_alone(
    tmp_path: Path, name: str, text: str | None, field: str
) -> None:
    card(tmp_path, "0000:03:00.0", "card0", **{name: text})
    reading = SysfsGpuProbe(tmp_path, {}).read(rocm())
    assert getattr(reading, field) is None
    known = [
        f for f in ("gpu", "gpu_memory", "temperature_celsius", "power_w") if getattr(reading, f) is not None
    ]
    assert len(known) == 3


def test_a_directory_in_place_of_a_file_is_unreadable_and_not_a_crash(tmp_path: Path) -> None:
    device = card(tmp_path, "0000:03:00.0", "card0", gpu_busy_percent=None)
    (device / "gpu_busy_percent").mkdir()
    assert SysfsGpuProbe(tmp_path, {}).read(rocm()).gpu is None


def test_newer_cards_give_momentary_power(tmp_path: Path) -> None:
    card(
        tmp_path, "0000:03:00.0", "card0",
        **{"hwmon/hwmon3/power1_average": None, "hwmon/hwmon3/power1_input": "9000000"},
    )  # fmt: skip
    assert SysfsGpuProbe(tmp_path, {}).read(rocm()).power_w == 9.0


def test_a_card_without_a_name_is_known_by_its_device_id(tmp_path: Path) -> None:
    card(tmp_path, "0000:03:00.0", "card0", product_name="")
    assert SysfsGpuProbe(tmp_path, {}).devices()[0].model == "AMD 0x740f"


def test_a_lost_card_raises_and_its_neighbour_keeps_its_number(tmp_path: Path) -> None:
    lost = card(tmp_path, "0000:03:00.0", "card0", gpu_busy_percent="1")
    card(tmp_path, "0000:83:00.0", "card1", gpu_busy_percent="99")
    probe = SysfsGpuProbe(tmp_path, {})
    assert probe.read(rocm(1)).gpu == 0.99
    shutil.rmtree(lost)
    with pytest.raises(ProbeError, match="rocm:0 is gone; 1 AMD GPUs"):
        probe.read(rocm(0))
    assert probe.read(rocm(1)).gpu == 0.99
    card(tmp_path, "0000:03:00.0", gpu_busy_percent="2")
    assert probe.read(rocm(0)).gpu == 0.02


def test_without_cards_there_are_no_devices(tmp_path: Path) -> None:
    assert SysfsGpuProbe(tmp_path, {}).devices() == []
    with pytest.raises(ProbeError, match="rocm:0"):
        SysfsGpuProbe(tmp_path, {}).read(rocm())


def test_rocm_runs_where_its_compute_device_is(tmp_path: Path) -> None:
    assert not rocm_runs(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").touch()
    assert rocm_runs(tmp_path)
