"""A fleet of `fleets` put into a real Redis, as its workers and publishers would write it."""

from __future__ import annotations

from typing import Any, Final

from balancer.adapters import beat, documents
from balancer.adapters.redis_keys import Keys
from balancer.model import Fleet
from tests.contract.messages import raw_message

#: Commands sent at once.
BATCH: Final = 2_000

#: Pushes `ARGV[2]` copies of a message, each under its own id, in place of the sample's.
FILL: Final = """
for i = 1, tonumber(ARGV[2]) do
  redis.call('LPUSH', KEYS[1], (string.gsub(ARGV[1], 'sample', ARGV[3] .. '-' .. i)))
end
"""

#: Messages pushed by one script, so that none of them blocks the server for long.
FILLED: Final = 20_000


def put(client: Any, keys: Keys, fleet: Fleet) -> None:
    """Everything of `fleet` but its time, which is the server's."""
    now = client.time()[0]
    for start in range(0, len(fleet.workers), BATCH):
        workers = fleet.workers[start:start + BATCH]
        client.zadd(keys.alive, {w.instance: now for w in workers})
        client.hset(keys.workers, mapping={w.name: documents.description_document(
            name=w.name, instance=w.instance, hardware=w.hardware, slots=w.slots) for w in workers})
        client.hset(keys.holds, mapping={w.name: documents.holds_document(
            running=w.running, reserved=w.reserved) for w in workers})
        client.hset(keys.beats, mapping={w.name: beat.pack(
            w.reading, busy=w.busy, loop_ticks=w.loop_ticks, at=0.0) for w in workers})
    client.hset(keys.lanes, mapping={lane.queue: documents.profile_document(lane.profile)
                                     for lane in fleet.lanes})
    for lane in fleet.lanes:
        message = raw_message("sample", lane.profile.name, at=now - 30.0, queue=lane.queue)
        for pushed in range(0, lane.waiting, FILLED):
            client.eval(FILL, 1, lane.queue, message, min(FILLED, lane.waiting - pushed),
                        f"{lane.profile.name}-{pushed}")


def beat_once(client: Any, keys: Keys, fleet: Fleet, busy: float) -> None:
    """What a second changes: every worker's time and reading, and what the share `busy` of them holds."""
    now = client.time()[0]
    with client.pipeline(transaction=False) as pipe:
        pipe.zadd(keys.alive, {w.instance: now for w in fleet.workers})
        pipe.hset(keys.beats, mapping={w.name: beat.pack(
            w.reading, busy=w.busy, loop_ticks=w.loop_ticks + now, at=0.0) for w in fleet.workers})
        changed = fleet.workers[:round(busy * len(fleet.workers))]
        pipe.hset(keys.holds, mapping={w.name: documents.holds_document(
            running=w.running, reserved=w.reserved, health="ok") + " " * (now % 7 + 1) for w in changed})
        pipe.execute()
