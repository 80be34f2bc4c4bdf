"""Limits of cgroup v2, read on fixture trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes import cgroup

GIB = 2**30


def tree(root: Path, own: str = "/", *, hybrid: bool = False) -> Path:
    """An empty cgroup v2 tree with this process in `own`; returns its mount point."""
    mount = root / ("sys/fs/cgroup/unified" if hybrid else "sys/fs/cgroup")
    (mount / own.strip("/")).mkdir(parents=True)
    (mount / "cgroup.controllers").write_text("cpu memory\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"4:memory:/other\n0::{own}\n")
    return mount


def put(level: Path, **files: str) -> None:
    for name, text in files.items():
        (level / name.replace("_", ".", 1)).write_text(text)


def test_every_level_of_the_path_is_looked_at(tmp_path: Path) -> None:
    mount = tree(tmp_path, "/user.slice/a.service")
    assert cgroup.levels(tmp_path) == [mount / "user.slice/a.service", mount / "user.slice", mount]


def test_a_container_finds_its_limits_at_the_root_of_its_mount(tmp_path: Path) -> None:
    put(tree(tmp_path), cpu_max="150000 100000\n", memory_max=f"{GIB}\n")
    chain = cgroup.levels(tmp_path)
    assert cgroup.cpu_quota(chain[0]) == 1.5
    assert cgroup.memory_limit_bytes(chain) == GIB


def test_a_path_outside_the_namespace_is_cut_off(tmp_path: Path) -> None:
    mount = tree(tmp_path)
    (tmp_path / "proc/self/cgroup").write_text("0::/../../elsewhere\n")
    assert cgroup.levels(tmp_path) == [mount]


def test_the_hybrid_layout_is_found(tmp_path: Path) -> None:
    mount = tree(tmp_path, "/a", hybrid=True)
    assert cgroup.levels(tmp_path) == [mount / "a", mount]


def test_without_cgroup_v2_there_are_no_levels(tmp_path: Path) -> None:
    assert cgroup.levels(tmp_path) == []
    (tmp_path / "sys/fs/cgroup/memory").mkdir(parents=True)
    assert cgroup.levels(tmp_path) == []


def test_a_process_only_in_v1_groups_has_no_levels(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/x\n")
    assert cgroup.levels(tmp_path) == []


@pytest.mark.parametrize("text", ["max 100000", "", "garbage", "0 100000", "100000 0", "-5 1"])
def test_no_quota_is_unknown_and_not_zero(tmp_path: Path, text: str) -> None:
    mount = tree(tmp_path)
    put(mount, cpu_max=text)
    assert cgroup.cpu_quota(mount) is None


def test_the_tightest_memory_limit_counts_and_inactive_cache_is_free(tmp_path: Path) -> None:
    mount = tree(tmp_path, "/pod/box")
    put(mount / "pod", memory_max=f"{8 * GIB}", memory_current=f"{7 * GIB}", memory_stat="inactive_file 0\n")
    put(
        mount / "pod/box",
        memory_max=f"{4 * GIB}",
        memory_current=f"{3 * GIB}",
        memory_stat=f"anon 5\ninactive_file {2 * GIB}\n",
    )
    chain = cgroup.levels(tmp_path)
    assert cgroup.memory_limit_bytes(chain) == 4 * GIB
    assert cgroup.memory(chain) == (7 / 8, 1 * GIB)


def test_without_memory_limits_memory_is_unknown(tmp_path: Path) -> None:
    mount = tree(tmp_path, "/a")
    put(mount / "a", memory_max="max", memory_current="123")
    assert cgroup.memory(cgroup.levels(tmp_path)) == (None, None)


def test_the_busiest_level_counts_relative_to_its_own_quota(tmp_path: Path) -> None:
    mount = tree(tmp_path, "/pod/box")
    put(mount / "pod", cpu_max="400000 100000", cpu_stat="usage_usec 1000000\n")
    put(mount / "pod/box", cpu_max="50000 100000", cpu_stat="usage_usec 1000000\nuser_usec 9\n")
    chain = cgroup.levels(tmp_path)
    before = cgroup.cpu_uses(chain)
    put(mount / "pod", cpu_stat="usage_usec 5000000\n")
    put(mount / "pod/box", cpu_stat="usage_usec 1500000\n")
    now = cgroup.cpu_uses(chain)
    assert cgroup.cpu_busy(before, now, 2.0, 8.0) == pytest.approx(0.5)
    assert cgroup.cpu_busy(before, now, 0.0, 8.0) is None
    assert cgroup.cpu_busy({}, now, 2.0, 8.0) is None
    assert cgroup.cpu_busy(now, before, 2.0, 8.0) is None
    assert cgroup.cpu_busy(before, now, 0.1, 8.0) == 1.0


@pytest.mark.parametrize(
    ("used_cpus", "idle_cpus", "expected"),
    [
        (0.2, 6.0, 0.1),  # the machine has enough: relative to the quota of 2
        (0.2, 0.3, 0.4),  # the neighbours leave half a CPU
        (0.2, 0.0, 1.0),  # they leave nothing
        (0.0, 0.0, None),  # nothing used of nothing
        (2.5, 4.0, 1.0),  # overdrawn within a period
    ],
)
def test_neighbours_count_when_they_are_in_the_way(
    used_cpus: float, idle_cpus: float, expected: float | None
) -> None:
    box = Path("box")
    before = {box: cgroup.CpuUse(used_s=10.0, cpus=2.0)}
    now = {box: cgroup.CpuUse(used_s=10.0 + 4 * used_cpus, cpus=2.0)}
    busy = cgroup.cpu_busy(before, now, 4.0, idle_cpus)
    assert busy == (None if expected is None else pytest.approx(expected))
