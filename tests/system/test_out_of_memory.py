"""A pool process that the kernel kills because memory ran out: its task goes where there is more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest

from balancer.routing import direct_queue
from tests.system.fleet import fleet
from tests.system.moving import starts, told
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

CGROUPS = Path("/sys/fs/cgroup")

#: What the small worker and its pool may use (bytes); they need about 100 MB.
ALLOWED = 300_000_000


@contextmanager
def allowing(limit: int) -> Iterator[Path]:
    """A cgroup whose processes may use so much memory (bytes), of either version."""
    second = (CGROUPS / "cgroup.controllers").exists()
    place = (CGROUPS if second else CGROUPS / "memory") / f"balancer-{uuid.uuid4().hex[:8]}"
    try:
        place.mkdir()
        (place / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit))
    except OSError as error:
        with suppress(OSError):
            place.rmdir()
        pytest.skip(f"no cgroup that limits memory can be made here: {error}")
    with suppress(OSError):  # where there is no swap there is no such file
        (place / "memory.swap.max").write_text("0")
    try:
        yield place
    finally:
        wait_until(lambda: removed(place), "all processes of the cgroup are gone")


def removed(place: Path) -> bool:
    with suppress(OSError):
        place.rmdir()
    return not place.exists()


def test_what_the_kernel_killed_for_memory_goes_on_where_there_is_more(
    module_redis_url: str, tasks: ModuleType, tmp_path: Path
) -> None:
    with allowing(ALLOWED) as small, fleet(module_redis_url, tmp_path) as crew:
        process = crew.worker("small", hardware="cpu,model=test,memory=0.3GB")
        (small / "cgroup.procs").write_text(str(process.pid))
        crew.worker("large", hardware="cpu,model=test,memory=64GB")
        crew.ready("small", "large")
        result = tasks.greedy.apply_async((600,), queue=direct_queue("small@test"))
        assert result.get(timeout=60) == "large@test", crew.said("small")
        assert starts(crew, result.id) == ["small@test", "large@test"]
        assert told(crew, result.id, "HandedOver") == 1
        crew.finished_once(result.id)
        # The worker lives, and runs what fits.
        fits = tasks.greedy.apply_async((10,), queue=direct_queue("small@test"))
        assert fits.get(timeout=60) == "small@test"
