"""A fleet of `fleets` put into a real Redis, as its workers and publishers would write it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from balancer.adapters import beat, beat_rows, documents, redis_beats, redis_board
from balancer.adapters.redis_keys import Keys
from balancer.model import Fleet
from tests.contract.messages import raw_message

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
    for w in fleet.workers:
        redis_beats.publish(
            client, keys, name=w.name, instance=w.instance, now=now,
            beat=beat.pack(w.reading, busy=w.busy, loop_ticks=w.loop_ticks, at=0.0),
            description=documents.description_document(
                name=w.name, instance=w.instance, hardware=w.hardware, slots=w.slots),
            holds=documents.holds_document(running=w.running, reserved=w.reserved))
    client.hset(keys.lanes, mapping={lane.queue: documents.profile_document(lane.profile)
                                     for lane in fleet.lanes})
    for lane in fleet.lanes:
        message = raw_message("sample", lane.profile.name, at=now - 30.0, queue=lane.queue)
        for pushed in range(0, lane.waiting, FILLED):
            client.eval(FILL, 1, lane.queue, message, min(FILLED, lane.waiting - pushed),
                        f"{lane.profile.name}-{pushed}")


def beat_once(client: Any, keys: Keys, fleet: Fleet, busy: float) -> None:
    """What a second changes: every worker's time and reading, and what the share `busy` of them holds; as
    `publish.lua` writes it, in a few large commands."""
    now, names = float(client.time()[0]), [w.name for w in fleet.workers]
    places = {name.decode(): int(place) for name, place in client.hgetall(keys.places).items() if name}
    board = np.frombuffer(client.get(keys.board), redis_board.ROW).copy()
    board["loop_ticks"] += 1
    board["seen"] = now
    changed = {w.name: documents.holds_document(running=w.running, reserved=w.reserved, health="ok")
               + " " * (int(now) % 7 + 1) for w in fleet.workers[:round(busy * len(fleet.workers))]}
    for name, holds in changed.items():
        board["holds"][places[name]] = redis_board.digest(holds.encode())
    beats = np.ascontiguousarray(board[list(beat_rows.DTYPE.names or ())].astype(beat_rows.DTYPE))
    with client.pipeline(transaction=False) as pipe:
        pipe.zadd(keys.alive, {w.instance: now for w in fleet.workers})
        pipe.hset(keys.beats, mapping={name: beats[places[name]].tobytes() for name in names})
        pipe.hset(keys.holds, mapping=changed)
        pipe.set(keys.board, board.tobytes())
        pipe.execute()
