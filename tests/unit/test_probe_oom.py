"""The kernel's count of out-of-memory kills, from made-up files."""

from __future__ import annotations

from pathlib import Path

from probes import oom


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_cgroup_of_this_process_counts(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cgroup.controllers", "memory")
    write(tmp_path, "proc/self/cgroup", "0::/job\n")
    write(tmp_path, "sys/fs/cgroup/job/memory.events", "low 0\nhigh 3\noom 9\noom_kill 2\noom_group_kill 0\n")
    write(tmp_path, "proc/vmstat", "nr_free_pages 1\noom_kill 7\n")
    assert oom.kills(tmp_path) == 2


def test_without_a_cgroup_the_machine_counts(tmp_path: Path) -> None:
    write(tmp_path, "proc/vmstat", "nr_free_pages 1\noom_kill 7\n")
    assert oom.kills(tmp_path) == 7


def test_what_is_not_told_is_none(tmp_path: Path) -> None:
    assert oom.kills(tmp_path) is None
    write(tmp_path, "proc/vmstat", "oom_kill many\n")
    assert oom.kills(tmp_path) is None
