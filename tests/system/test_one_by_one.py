"""The parts of a fleet as a user starts them, one by one: worker, beat, Flower, and a client."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
import redis

from balancer.adapters.redis_keys import Keys
from balancer.demo.children import Children
from balancer.demo.crew import CARDS
from balancer.demo.place import Place
from balancer.demo.workload import MATRIX_PROFILE, MATRIX_TASK, TRAINING_TASK
from tests.waiting import wait_until
from workers.demo_app import make_app

#: Flower asks for a name and a password in this test.
LOGIN = "Basic " + base64.b64encode(b"a:b").decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Place:
    return Place(redis=redis_url, folder=str(tmp_path), block_s=0.002)


@pytest.fixture
def children(place: Place, tmp_path: Path) -> Iterator[Children]:
    started = Children("workers.demo_app", place.environment(), tmp_path)
    yield started
    started.stop(grace_s=5)


def page(url: str) -> str:
    """A page of Flower; empty while it does not answer."""
    request = urllib.request.Request(url, headers={"Authorization": LOGIN})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return str(answer.read().decode())
    except (URLError, OSError):
        return ""


def said(children: Children, *arguments: str) -> str:
    """What a command of `celery balancer` prints."""
    entry = "import sys; from balancer.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", entry, "-A", "workers.demo_app", *arguments], env=children.environment,
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.system
@pytest.mark.timeout(180)
def test_worker_beat_and_flower_started_by_hand_make_a_balanced_fleet(
    place: Place, children: Children, tmp_path: Path, redis_client: redis.Redis
) -> None:
    port = free_port()
    card = CARDS["V100"].hardware(0)
    one = ("-c", "1", "-E")
    children.start("gpu", "worker", "--hardware", card, "-n", "gpu0@emulated", "-P", "threads", *one)
    children.start("cpu", "worker", "--hardware", "cpu", "-n", "cpu0@here", *one)
    children.start("beat", "beat", "-s", str(tmp_path / "schedule"), "--pidfile=")
    children.start("flower", "flower", "--address=127.0.0.1", f"--port={port}", "--basic-auth=a:b",
                   BROKER_URL=place.redis)
    app = make_app(place)
    training = app.tasks[TRAINING_TASK].apply_async(
        kwargs={"profile": "A3C", "size": 0.5}, profile="A3C", size=0.5
    )
    matrix = app.tasks[MATRIX_TASK].apply_async(kwargs={"blocks": 20}, profile=MATRIX_PROFILE, size=20)
    logs = "; logs in " + str(tmp_path)
    assert training.get(timeout=90)["done"] == 0.5, logs
    assert matrix.get(timeout=90)["done"] == 20, logs
    order = Keys().order("cuda-V100")
    wait_until(lambda: redis_client.exists(order), "the balancer published an order" + logs)
    url = f"http://127.0.0.1:{port}/"
    wait_until(lambda: "gpu0@emulated" in page(url), "Flower shows the worker" + logs)
    wait_until(lambda: re.search(r">\s*celery\s*<", page(url + "broker")), "Flower shows a queue" + logs)
    late = app.tasks[MATRIX_TASK].apply_async(kwargs={"blocks": 5}, profile=MATRIX_PROFILE, size=5)
    wait_until(lambda: late.id in page(url + "api/tasks"), "Flower shows a task" + logs)
    fleet = said(children, "status")
    assert re.search(r"gpu0@emulated +cuda-V100 \(emulated\) +\d/1", fleet), fleet
    assert "no balancer runs" not in fleet
    story = said(children, "explain", training.id)
    assert "sees SUCCESS" in story
    assert "run 1 on gpu0@emulated ended" in story or "not asked: there is no ledger" in story, story
    assert '"strategy": "priced"' in said(children, "stats")
    assert all(child.alive for child in children.all), logs
