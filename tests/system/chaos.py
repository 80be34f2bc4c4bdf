"""Workers are killed, frozen and restarted and tasks are moved about, all at random; then all is counted.

    python -m tests.system.chaos --tasks 400 --kills 12 --seed 1

Chains, chords, retries and checkpointing tasks run on workers of two pools beside a real beat with
the `adaptive` strategy. The last line is JSON. `lost` counts tasks that never ended.
A journal of every push and every taking into `unacked` tells them apart: what was pushed, is in no
queue and was never taken is `lost_in_pop` (the broker's own BRPOP window), the rest is
`lost_unexplained`. `committed_twice` counts by the fence's events, `finished_twice` by an independent
ledger that a signal in the workers fills. A worker that dies between that signal and its ack has its
kept result told again without a run: `told_again`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis
from celery import chord
from redis.exceptions import RedisError

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.redis_connection import connect
from balancer.adapters.redis_handover import RedisHandOver
from balancer.errors import BalancerError
from balancer.model import Move, Score
from balancer.routing import class_queue, direct_queue, lane_queue
from tests.system.fleet import FleetUnderTest, fleet

IDS = re.compile(rb'"id": ?"([0-9a-f-]{36})"')
#: The same in what MONITOR says, where quotes are escaped once or twice.
TOLD_IDS = re.compile(r'\\*"id\\*": ?\\*"([0-9a-f-]{36})')
CLASSES = ("cpu-fast", "cpu-slow")
POOLS = ("prefork", "threads", "prefork", "threads", "prefork")


@dataclass(slots=True, kw_only=True)
class Expected:
    """A call as a client made it: what it must return, and every task it is made of."""

    result: Any
    value: Any
    ids: list[str]


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a run counted; the JSON of the last line."""

    seed: int
    tasks: int = 0
    calls: int = 0
    kills: int = 0
    freezes: int = 0
    moves: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    wrong: int = 0
    lost: int = 0
    lost_in_pop: int = 0
    lost_unexplained: list[str] = field(default_factory=list)
    stuck: list[list[str]] = field(default_factory=list)
    committed_twice: list[str] = field(default_factory=list)
    finished_twice: list[str] = field(default_factory=list)
    told_again: list[str] = field(default_factory=list)
    bodies_repeated: int = 0
    copies_refused: int = 0
    keys_without_ttl: int = 0
    seconds: float = 0.0


class Chaos:
    """One run over one fleet."""

    def __init__(self, under_test: FleetUnderTest, tasks: Any, counts: Counts) -> None:
        self.fleet = under_test
        self.tasks = tasks
        self.counts = counts
        self.random = random.Random(counts.seed)
        self.names = [f"w{number}" for number in range(len(POOLS))]
        self.journal: dict[str, str] = {}
        self.over = threading.Event()

    def start(self, name: str) -> None:
        number = self.names.index(name)
        hardware = f"{CLASSES[number % 2].replace('-', ',model=')}"
        self.fleet.worker(name, pool=POOLS[number], slots=2, hardware=hardware, prefetch=1 + number % 3 // 2)

    def publish(self, wanted: int) -> list[Expected]:
        """Calls of every shape until there are `wanted` tasks."""
        calls: list[Expected] = []
        shapes = (self._chain, self._chord, self._alone, self._retries)
        while sum(len(call.ids) for call in calls) < wanted:
            calls.append(self.random.choice(shapes)(self.random.randrange(1000)))
            self.over.wait(0.01)
        return calls

    def _chain(self, number: int) -> Expected:
        steps = self.random.randint(1, 25)
        result = (
            self.tasks.step.s(number, steps=steps) | self.tasks.add.s(other=1) | self.tasks.add.s(other=2)
        ).apply_async()
        ids, link = [], result
        while link is not None:
            ids.append(link.id)
            link = link.parent
        return Expected(result=result, value=number + steps + 3, ids=ids)

    def _chord(self, number: int) -> Expected:
        header = [self.tasks.step.s(number, steps=self.random.randint(1, 15)) for _ in range(3)]
        value = sum(number + sig.kwargs["steps"] for sig in header)
        result = chord(header)(self.tasks.total.s())
        return Expected(result=result, value=value, ids=[result.id, *(r.id for r in result.parent.results)])

    def _alone(self, number: int) -> Expected:
        steps = self.random.randint(2, 80)
        result = self.tasks.step.apply_async((number, steps), priority=self.random.choice((0, 3, 9)))
        return Expected(result=result, value=number + steps, ids=[result.id])

    def _retries(self, number: int) -> Expected:
        task = self.random.choice((self.tasks.flaky, self.tasks.again))
        times = number % 4 if task is self.tasks.flaky else 3 + number % 30
        result = task.apply_async((times,))
        return Expected(result=result, value=times, ids=[result.id])

    # What disturbs them.

    def move_about(self) -> None:
        """Moves of all kinds until the run is over."""
        app = self.tasks.app
        control = app.control

        def tell(worker: str, arguments: Any) -> None:
            control.broadcast("balancer_relinquish", arguments=dict(arguments), destination=[worker])

        hand_over = RedisHandOver(connect(app), tell)
        while not self.over.wait(0.1):
            try:
                move = self._some_move()
                if move is not None:
                    hand_over.request(move, timeout_s=5)
                    self.counts.moves[move.kind] = self.counts.moves.get(move.kind, 0) + 1
            except (RedisError, BalancerError) as error:
                print("a move could not be asked for:", error, flush=True)

    def _some_move(self) -> Move | None:
        kind = self.random.choice(("queued", "reserved", "running", "running"))
        target = self.random.choice(self.names)
        queue = direct_queue(f"{target}@test")
        if kind == "queued":
            source = lane_queue(self.random.choice(("tests.step", "tests.add", "tests.flaky", "tests.again")))
            queue = self.random.choice((queue, class_queue(self.random.choice(CLASSES))))
            return self._move(kind, "", source, target, queue)
        holder = self.random.choice(self.names)
        held = self.holds(holder)[kind]
        if not held or holder == target:
            return None
        return self._move(kind, self.random.choice(held), f"{holder}@test", target, queue)

    def _move(self, kind: Any, task_id: str, source: str, target: str, queue: str) -> Move:
        return Move(
            move_id=f"{kind}-{self.random.getrandbits(40)}",
            task_id=task_id,
            profile="p",
            kind=kind,
            source=source,
            target=f"{target}@test",
            target_queue=queue,
            reason="chaos",
            count=self.random.randint(1, 4),
            score=Score(cost=0.0, benefit=1.0),
            at=0.0,
        )

    def holds(self, name: str) -> dict[str, list[str]]:
        raw = self.fleet.client.hget(self.fleet.keys.holds, f"{name}@test")
        document = json.loads(raw) if raw else {}
        return {kind: [t["task_id"] for t in document.get(kind, [])] for kind in ("running", "reserved")}

    def disturb(self, kills: int, every_s: float) -> None:
        """Kill and restart, freeze and thaw, until `kills` workers were killed."""
        while self.counts.kills < kills and not self.over.wait(self.random.uniform(0.3, 1.7) * every_s):
            busy = [name for name in self.names if len(self.holds(name)["running"]) >= 2]
            name = self.random.choice(busy or self.names)
            if self.random.random() < 0.6:
                self._kill(name)
                self.over.wait(self.random.uniform(0, 2))
                self.start(name)
            else:
                self._freeze(name, self.random.uniform(0.5, 14))

    def _kill(self, name: str) -> None:
        self.fleet.kill(name)
        self.counts.kills += 1

    def _freeze(self, name: str, seconds: float) -> None:
        os.killpg(self.fleet.processes[name].pid, signal.SIGSTOP)
        self.over.wait(seconds)
        os.killpg(self.fleet.processes[name].pid, signal.SIGCONT)
        self.counts.freezes += 1

    def watch(self) -> None:
        """Keep for each task whether its message was last pushed or taken, until the run is over."""
        with redis.Redis.from_url(self.fleet.url) as client, client.monitor() as monitor:
            while not self.over.is_set():
                told = str(monitor.next_command()["command"])
                pushed = told.startswith(("LPUSH", "RPUSH", "lpush", "rpush"))
                if pushed or told[:12].lower() == "hset unacked":
                    for task_id in TOLD_IDS.findall(told):
                        self.journal[task_id] = "pushed" if pushed else "taken"

    def seen(self) -> set[str]:
        """Ids of every task whose message lies in a queue or in a worker's hands."""
        client, found = self.fleet.client, set()
        for raw in client.hvals(self.fleet.keys.unacked):
            found.update(i.decode() for i in IDS.findall(raw.replace(b'\\"', b'"')))
        for key in client.scan_iter(match="bal.*", _type="list"):
            for raw in client.lrange(key, 0, -1):
                found.update(i.decode() for i in IDS.findall(raw))
        return found

    # What is counted.

    def wait(self, calls: list[Expected], patience_s: float) -> list[Expected]:
        """Wait while calls end; returns those that have not when nothing happened for `patience_s`."""
        left, since = calls, time.monotonic()
        while left and time.monotonic() - since < patience_s:
            self.over.wait(0.5)
            still = [call for call in left if not call.result.ready()]
            if len(still) < len(left) or self.seen():
                since = time.monotonic()
            left = still
        return left

    def judge(self, calls: list[Expected], left: list[Expected]) -> None:
        counts = self.counts
        counts.ended = len(calls) - len(left)
        counts.wrong = sum(
            call.result.state != "SUCCESS" or call.result.result != call.value
            for call in calls
            if call not in left
        )
        counts.stuck = [[self._story(i) for i in call.ids] for call in left]
        for task_id in (i for call in left for i in self._stuck(call)):
            counts.lost += 1
            if self.journal.get(task_id) == "pushed" and task_id not in self.seen():
                counts.lost_in_pop += 1
            else:
                counts.lost_unexplained.append(task_id)
        ids = [i for call in calls for i in call.ids]
        twice = [i for i in ids if self.fleet.finishes(i) > 1]
        logs = "".join((self.fleet.logs / f"{name}.log").read_text() for name in self.names)
        counts.told_again = [i for i in twice if f"task {i} had committed" in logs]
        counts.finished_twice = [i for i in twice if i not in counts.told_again]
        self._count_events(set(ids))
        client = self.fleet.client
        counts.keys_without_ttl = sum(
            client.ttl(key) == -1
            for what in ("fence", "state", "want")
            for key in client.scan_iter(match=self.fleet.keys.ours(what, "*"))
        )

    def _stuck(self, call: Expected) -> list[str]:
        """Tasks of a call that were published and have not ended: what keeps the rest waiting."""
        unfinished = [i for i in call.ids if not self.fleet.finishes(i)]
        started = [i for i in unfinished if self.fleet.client.exists(self.fleet.keys.fence(i))]
        return started or unfinished[-1:]

    def _story(self, task_id: str) -> str:
        """What can be said of a task whose call did not end."""
        raw = self.fleet.client.get(f"celery-task-meta-{task_id}")
        fence = self.fleet.fence(task_id)
        return (
            f"{task_id}: result {json.loads(raw)['status'] if raw else 'none'}, finished "
            f"{self.fleet.finishes(task_id)} times, fence {fence.get('state')} {fence.get('g')} by "
            f"{fence.get('worker')}, {'there' if task_id in self.seen() else 'in no queue or hand'}, "
            f"last {self.journal.get(task_id, 'never pushed')}"
        )

    def _count_events(self, ids: set[str]) -> None:
        successes: Counter[str] = Counter()
        begun: Counter[tuple[str, int]] = Counter()
        answers: Counter[str] = Counter()
        for _, fields in self.fleet.client.xrange(self.fleet.keys.events):
            event = json.loads(fields[b"e"])
            kind = event["type"]
            answers[kind] += 1
            if kind == "RunFinished" and event["outcome"] == "success":
                successes[event["task_id"]] += 1
            if kind == "RunStarted":
                begun[event["task_id"], event["epoch"]] += 1
        self.counts.answers = dict(answers)
        self.counts.committed_twice = [i for i, n in successes.items() if n > 1 and i in ids]
        self.counts.copies_refused = answers["Duplicate"]
        retries = {i for i in ids if self.fleet.fence(i).get("g", "")[7:13] not in ("", "000000")}
        self.counts.bodies_repeated = sum(n - 1 for (i, _), n in begun.items() if i not in retries)


def run(options: argparse.Namespace, under_test: FleetUnderTest, tasks: Any) -> Counts:
    counts = Counts(seed=options.seed)
    chaos = Chaos(under_test, tasks, counts)
    began = time.monotonic()
    for name in chaos.names:
        chaos.start(name)
    schedule = str(under_test.logs / "schedule")
    beat = ["beat", "-l", "info", "-s", schedule, "--check-interval", "1", "--db-path", ""]
    under_test.run("beat", *beat, "--balancer-strategy", options.strategy)
    under_test.ready(*chaos.names)
    every_s = options.tasks * 0.08 / max(1, options.kills)
    threads = [
        threading.Thread(target=chaos.move_about),
        threading.Thread(target=chaos.watch),
        threading.Thread(target=chaos.disturb, args=(options.kills, every_s)),
    ]
    for thread in threads:
        thread.start()
    try:
        calls = chaos.publish(options.tasks)
        counts.calls, counts.tasks = len(calls), sum(len(call.ids) for call in calls)
        threads[2].join(timeout=options.tasks * 0.3 + 60)
        left = chaos.wait(calls, patience_s=20)
    finally:
        chaos.over.set()
        for thread in threads:
            thread.join()
    chaos.judge(calls, left)
    counts.seconds = round(time.monotonic() - began, 1)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strategy", default="adaptive")
    parser.add_argument("--logs", type=Path, default=None, help="keep the workers' logs here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as server:
        os.environ["BALANCER_TEST_URL"] = server.url
        import tests.system.fleet_app as tasks

        logs = options.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        with fleet(server.url, logs) as under_test:
            print(json.dumps(asdict(run(options, under_test, tasks))), flush=True)
    os._exit(0)  # results that are left would look for their server, which is gone


if __name__ == "__main__":
    main()
