"""Which workers are strangers to a fleet, by the queues they consume from."""

from __future__ import annotations

from balancer.routing import direct_queue, lane_queue
from balancer.strangers import Look, strangers_among


def consuming(*queues: str) -> list[dict[str, str]]:
    return [{"name": queue} for queue in queues]


def test_who_serves_what_the_fleet_serves_without_being_of_it_is_a_stranger() -> None:
    active = {
        "ours@h": consuming("celery", lane_queue("p")),
        "shares@h": consuming("celery", "mail"),
        "lane@h": consuming(lane_queue("p"), direct_queue("ours@h")),
        "apart@h": consuming("mail"),
    }
    assert strangers_among(active, {"ours@h"}, {"celery"}) == {
        "shares@h": ("celery",),
        "lane@h": (lane_queue("p"), direct_queue("ours@h")),
    }


def test_a_look_names_the_worker_and_its_queues() -> None:
    look = Look(at=1.0, strangers={"shares@h": ("celery",)})
    assert not look.clear
    assert "shares@h (celery)" in look.sentence()
    assert [one.source for one in look.asides()] == ["workers without the plug-in"]
    assert Look(at=1.0, strangers={}).asides() == ()
