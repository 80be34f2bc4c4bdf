"""How a running task can leave its worker, by what it declares, the pool and the policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.plan import admit
from balancer.decide.situation import Suggestions
from balancer.decide.strategies import by_name
from balancer.decide.way_out import way_out
from balancer.errors import SettingError
from balancer.model import Fleet, Worker
from balancer.settings import Settings, parse
from tests.unit.fleets import fleet, held, known, situation, with_running, worker

V100, K80 = "cuda-V100", "cuda-K80"
SLOW = f"{K80}-0"
TABLE = {"a": {V100: 1.0, K80: 4.0}}


def on(pool: str) -> Worker:
    return replace(worker("cpu"), pool=pool)


@pytest.mark.parametrize(
    ("checkpoints", "restartable", "pool", "policy", "way"),
    [
        (False, False, "prefork", "always", None),
        (False, True, "prefork", "restartable", "preempted"),
        (False, True, "prefork", "always", "preempted"),
        (False, True, "prefork", "never", None),
        (False, True, "thread", "restartable", None),
        (False, True, "solo", "always", None),
        (True, False, "prefork", "restartable", "checkpoint"),
        (True, True, "prefork", "restartable", "checkpoint"),
        (True, False, "prefork", "always", "preempted"),
        (True, False, "gevent", "always", "checkpoint"),
        (True, True, "prefork", "never", "checkpoint"),
    ],
)
def test_the_way_out(checkpoints: bool, restartable: bool, pool: str, policy: str, way: str | None) -> None:
    profile = replace(
        fleet(V100, lanes="a:0").lanes[0].profile, checkpoints=checkpoints, restartable=restartable
    )
    task = replace(held("t", "a", ran_s=1.0), checkpoints=checkpoints)
    assert way_out(task, profile, on(pool), policy) == way


def restartable(pool: str, ran_s: float = 40.0) -> Fleet:
    """One restartable task on a slow worker, and an idle fast one."""
    task = replace(held("t", "a", ran_s=ran_s, size=100.0), checkpoints=False)
    state = with_running(fleet(f"{V100} {K80}", lanes="a:0"), SLOW, task)
    lanes = (
        replace(x, profile=replace(x.profile, checkpoints=False, restartable=True)) for x in state.lanes
    )
    return replace(state, workers=tuple(replace(w, pool=pool) for w in state.workers), lanes=tuple(lanes))


def suggested(state: Fleet, **options: object) -> tuple[Suggestions, tuple[bool, ...]]:
    given = situation(state, known(TABLE), settings=Settings(**options))  # type: ignore[arg-type]
    found = by_name("priced").suggest(given)
    return found, tuple(move.preempt for move in admit(found, given)[0])


def test_a_restartable_task_is_interrupted_where_that_gains() -> None:
    """360 s remain on the K80; on the V100 it takes 100 s in all, begun anew."""
    found, preempt = suggested(restartable("prefork"))
    assert found.moves[0].score.parts["repeated_s"] == pytest.approx(40.0)
    assert found.moves[0].score.parts["there_s"] == pytest.approx(100.0)
    assert preempt == (True,)


def test_a_restartable_task_that_would_lose_too_much_stays() -> None:
    found, preempt = suggested(restartable("prefork", ran_s=320.0))
    assert (preempt, [no.reason for no in found.rejected]) == ((), ["gain too small"])


@pytest.mark.parametrize(("pool", "policy"), [("thread", "restartable"), ("prefork", "never")])
def test_where_it_cannot_be_interrupted_it_stays(pool: str, policy: str) -> None:
    found, _ = suggested(restartable(pool), preempt=policy)
    assert [no.reason for no in found.rejected] == ["not migratable"]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(SettingError, match="restartable, always, never, did you mean 'always'"):
        parse({"preempt": "alway"})
