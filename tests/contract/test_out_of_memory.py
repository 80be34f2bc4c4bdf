"""A task whose process the kernel killed for memory goes to a live worker with more, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery

from balancer.adapters import redis_beats
from balancer.adapters.beat import pack
from balancer.adapters.documents import description_document
from balancer.adapters.redis_connection import Connection
from balancer.model import Hardware, Reading, RunStarted
from balancer.routing import direct_queue, lane_queue
from tests.contract.messages import raw_message
from workers.header import read_header
from workers.lanes import LaneFollower
from workers.out_of_memory import LATELY_S, MemoryWatch, sent_where_memory_is
from workers.run import delivery_of
from workers.task import fence_of

SMALL, LARGE, LARGER = (Hardware(kind="cpu", memory_bytes=size * 10**9) for size in (8, 64, 128))
KILLED = WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 1.")


@pytest.fixture
def vmstat(tmp_path: Path) -> Path:
    file = tmp_path / "proc/vmstat"
    file.parent.mkdir()
    file.write_text("oom_kill 4\n")
    return file


@pytest.fixture
def killed(redis_url: str, connection: Connection, vmstat: Path) -> Iterator[Any]:
    """A request whose body ran here, on the worker with little memory."""
    app = Celery("oom", broker=redis_url)
    report(connection, "small@h", SMALL)
    raw = json.loads(raw_message("t", "p", queue="lane"))
    context = SimpleNamespace(id="t", replaced_task_nesting=0, retries=0, balancer=raw["headers"]["balancer"],
                              properties=raw["properties"])
    delivery = delivery_of(context, read_header(context.balancer), "")
    connection.client.hset(connection.keys.unacked, delivery.tag, json.dumps([raw, "", "lane"]))
    fence_of(app)[0].claim(delivery, RunStarted(
        at=0.0, task_id="t", profile="p", worker="small@h", hardware_class="cpu", epoch=0))
    LaneFollower.current = LaneFollower(connection, SMALL, "small@h")
    MemoryWatch.current = MemoryWatch(vmstat.parents[1])
    MemoryWatch.current.note()
    yield SimpleNamespace(id="t", name="proj.t", app=app, delivery=delivery, request_dict=raw["headers"],
                          delivery_info={"exchange": "", "routing_key": lane_queue("p")})
    LaneFollower.current = MemoryWatch.current = None


def report(connection: Connection, name: str, hardware: Hardware, queues: tuple[str, ...] = ()) -> None:
    redis_beats.publish(
        connection.client, connection.keys, name=name, instance=f"{name}:1",
        beat=pack(Reading(), busy=0, loop_ticks=0, at=0.0), holds=None, now=0.0,
        description=description_document(name=name, instance=f"{name}:1", hardware=hardware, slots=1,
                                         queues=queues))


def test_it_goes_where_there_is_more_memory(connection: Connection, killed: Any, vmstat: Path) -> None:
    report(connection, "large@h", LARGE)
    vmstat.write_text("oom_kill 5\n")
    assert sent_where_memory_is(killed, KILLED) is True
    assert connection.client.llen(direct_queue("large@h")) == 1
    assert connection.client.hlen(connection.keys.unacked) == 0


def test_what_came_from_a_queue_of_the_operators_stays_with_those_that_serve_it(
    connection: Connection, killed: Any, vmstat: Path
) -> None:
    killed.request_dict["balancer"]["home"] = "payments"
    report(connection, "larger@h", LARGER)
    vmstat.write_text("oom_kill 5\n")
    assert sent_where_memory_is(killed, KILLED) is False
    report(connection, "large@h", LARGE, queues=("payments",))
    assert sent_where_memory_is(killed, KILLED) is True
    assert connection.client.llen(direct_queue("large@h")) == 1


def test_where_nobody_has_more_it_stays(connection: Connection, killed: Any, vmstat: Path) -> None:
    vmstat.write_text("oom_kill 5\n")
    assert sent_where_memory_is(killed, KILLED) is False
    assert connection.client.hlen(connection.keys.unacked) == 1


@pytest.mark.parametrize("error", [KILLED, WorkerLostError("signal 11 (SIGSEGV)"), SystemExit(1)])
def test_other_losses_are_no_want_of_memory(connection: Connection, killed: Any, vmstat: Path,
                                            error: BaseException) -> None:
    report(connection, "large@h", LARGE)
    if error is not KILLED:
        vmstat.write_text("oom_kill 5\n")
    assert sent_where_memory_is(killed, error) is False


def test_a_kill_counts_until_its_process_is_missed_and_not_for_ever(vmstat: Path) -> None:
    watch = MemoryWatch(vmstat.parents[1])
    watch.note(100.0)
    vmstat.write_text("oom_kill 5\n")
    for second in range(1, int(LATELY_S)):
        watch.note(100.0 + second)
    assert watch.rose()
    watch.note(101.0 + LATELY_S)
    assert not watch.rose()
