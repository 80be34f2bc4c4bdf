"""What is free of the device whose memory this worker's slots share, as the choice at a pop wants it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from balancer.decide.fragments import Room, left_bytes
from balancer.decide.pull import Device
from balancer.model import Footprint, Hardware, Reading, TaskProfile


def shared_device(hardware: Hardware, reading: Reading, slots: int, lanes: Mapping[str, TaskProfile],
                  held: Iterable[str], coming: int = 0) -> Device | None:
    """The device by the profiles that are `held` and the bytes of what is `coming` to it by moves; `None`
    where nothing is shared: one slot, a device that does not tell its memory, or tasks that ask for none.

    A worker that reserves beyond its slots may always take one task more, if there is memory for it.
    """
    total = hardware.gpu_memory_bytes
    if slots < 2 or not total:
        return None
    takes = {queue: _footprint(asked) for queue, lane in lanes.items()
             if (asked := lane.needs.gpu_memory_bytes)}
    if not takes:
        return None
    asked_by = {lane.name: lane.needs.gpu_memory_bytes or 0 for lane in lanes.values()}
    profiles = list(held)
    free = left_bytes(total, (asked_by.get(name, 0) for name in profiles), reading.gpu_memory_free_bytes)
    room = Room(left=(max(0.0, free - coming),), slots=max(1, slots - len(profiles)))
    return Device(room=room, takes=takes)


@lru_cache(maxsize=1024)
def _footprint(share: int) -> Footprint:
    return Footprint(share=float(share))
