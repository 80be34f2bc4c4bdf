"""Scenarios of single calls: retries, limits, options, states and revokes. Run by `parity_client`."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.system.parity_scenarios import Steps, prefork_only, scenario, seen


@scenario
def plain_calls(t: Any) -> Steps:
    results = [t.add.delay(1, 2), t.add.apply_async((1,), {"y": 5}), t.echo.delay("ü∑", key=None)]
    yield from results
    return [seen(result) for result in results]


@scenario
def result_told_to_a_waiting_client(t: Any) -> Steps:
    """`get` waits for what is published, without asking again and again."""
    result = t.slow.delay(0.3, "woken")
    told = []
    value = result.get(timeout=20, on_message=lambda message: told.append(message["status"]), interval=30)
    yield result
    return [value, told[-1]]


@scenario
def extended_result(t: Any) -> Steps:
    result = t.echo.apply_async((1, "a"), {"k": [1]}, shadow="shadowed")
    yield result
    ended = t.app.AsyncResult(result.id)
    return [ended.name, ended.args, ended.kwargs, ended.worker, ended.retries, ended.date_done is not None]


@scenario
def failures(t: Any) -> Steps:
    results = [t.fail.delay(), t.unpicklable.delay(), t.not_json.delay(), t.fail.delay("bytes", 1)]
    yield from results
    told = [[result.state, type(result.result).__name__, str(result.result)] for result in results]
    return [told, results[0].failed(), results[0].get(propagate=False).args]


@prefork_only
def wrong_arguments(t: Any) -> Steps:
    results = [
        t.app.send_task("parity.strict", args, kwargs) for args, kwargs in (((), {}), ((1,), {"y": 2}))
    ]
    yield from results
    return [seen(result) for result in results]


@prefork_only
def unknown_task(t: Any) -> Steps:
    result = t.app.send_task("parity.nobody_knows", (1,))
    yield result
    return seen(result)


@prefork_only
def task_by_name_and_id(t: Any) -> Steps:
    result = t.app.send_task(
        "parity.asked", task_id=f"own-{t.NAME}", headers={"own": {"deep": [1]}}, argsrepr="(hid)"
    )
    yield result
    told = result.get()
    return [
        told["id"] == result.id,
        told["own"],
        told["headers"],
        told["argsrepr"],
        told["origin"] is not None,
    ]


@scenario
def request_of_a_call(t: Any) -> Steps:
    eta = datetime.now(UTC) + timedelta(seconds=0.2)
    result = t.asked.apply_async(
        (1,), {"k": 2}, priority=7, eta=eta, expires=600, time_limit=100, soft_time_limit=90
    )
    yield result
    told = result.get()
    return [told, datetime.fromisoformat(told["eta"]) == eta]


@prefork_only
def request_after_a_retry(t: Any) -> Steps:
    result = t.other_arguments.apply_async((1,), priority=6)
    yield lambda: result.state == "SUCCESS"
    return seen(result)


@scenario
def retries_that_help(t: Any) -> Steps:
    results = [t.flaky.delay(2), t.automatic.delay(2)]
    yield from results
    return [[*seen(result), t.app.AsyncResult(result.id).retries] for result in results]


@scenario
def retries_that_do_not(t: Any) -> Steps:
    results = [t.hopeless.delay(), t.hopeless.delay(False), t.automatic.delay(9)]
    yield from results
    return [[seen(result)[0], type(result.result).__name__, str(result.result)] for result in results]


@prefork_only
def retry_is_told(t: Any) -> Steps:
    result = t.flaky.apply_async((1,), link_error=t.errback.s(), link=t.add.s(5))
    yield result
    yield lambda: result.children
    yield result.children[0]
    return [seen(result), seen(result.children[0])]


@scenario
def results_that_are_ignored(t: Any) -> Steps:
    first = t.unstored.apply_async((1,), link=t.add.s(1))
    second = t.add.apply_async((2, 2), ignore_result=True)
    third = t.unstored.apply_async((3,), ignore_result=False)
    yield third
    yield t.happened(second.id, "body")
    yield t.happened(first.id, "body")
    return [first.state, second.state, seen(third)]


@scenario
def states_of_its_own(t: Any) -> Steps:
    result, other = t.progress.delay(3), t.done_custom.delay()
    yield lambda: result.info == {"step": 2}
    yield other
    return [result.state, result.info, seen(other)]


@scenario
def started_is_tracked(t: Any) -> Steps:
    result = t.gate.delay()
    yield lambda: result.state == "STARTED"
    info = dict(result.info)
    t.say(result.id, "opened")
    yield result
    return [sorted(info), info["hostname"], seen(result)]


@scenario
def results_that_are_forgotten(t: Any) -> Steps:
    result = t.add.delay(3, 3)
    yield result
    value = result.get()
    result.forget()
    return [value, t.app.AsyncResult(result.id).state]


@scenario
def rejects_and_is_run_again(t: Any) -> Steps:
    result = t.rejects.delay(True)
    yield lambda: result.state == "SUCCESS"
    return seen(result)


@scenario
def rejects_for_good(t: Any) -> Steps:
    result = t.rejects.delay(False)
    yield t.happened(result.id, "body")
    yield lambda: result.ready()
    return [result.state, type(result.result).__name__]


@prefork_only
def is_not_acknowledged_on_failure(t: Any) -> Steps:
    result = t.kept.delay()
    yield result
    return seen(result)


@prefork_only
def soft_limits(t: Any) -> Steps:
    results = [t.soft.apply_async((catches,), soft_time_limit=1) for catches in (True, False)]
    yield from results
    return [[seen(result)[0], str(result.result)] for result in results]


@prefork_only
def hard_limit(t: Any) -> Steps:
    result = t.slow.apply_async((20,), time_limit=1, link_error=t.errback.s())
    yield result
    return [result.state, repr(result.result)]


@prefork_only
def limits_of_a_declaration(t: Any) -> Steps:
    results = [t.declared_limits.delay(), t.declared_limits.apply_async(time_limit=99)]
    yield from results
    return [seen(result) for result in results]


@scenario
def rate_is_limited(t: Any) -> Steps:
    began = time.monotonic()
    results = [t.limited.delay() for _ in range(4)]
    yield from results
    return [[r.state for r in results], time.monotonic() - began > 0.5]


@scenario
def waits_for_its_time(t: Any) -> Steps:
    began = time.monotonic()
    early, late = t.add.apply_async((1, 1), countdown=0.5), t.add.apply_async((2, 2), countdown=1)
    yield early
    yield late
    return [seen(early), seen(late), time.monotonic() - began >= 1]


@scenario
def expires(t: Any) -> Steps:
    # Received long before it expires, however busy the machine is.
    result = t.add.apply_async((1, 1), expires=25, countdown=26)
    dated = t.add.apply_async((1, 1), expires=datetime.now(UTC) - timedelta(seconds=5))
    fresh = t.add.apply_async((1, 1), expires=100)
    yield from (result, dated, fresh)
    return [[one.state, repr(one.result)] for one in (result, dated, fresh)]


@scenario
def revoked_while_it_waits(t: Any) -> Steps:
    result = t.add.apply_async((1, 1), countdown=600)
    yield t.happened(result.id, "signal received")
    result.revoke()
    yield result
    yield t.happened(result.id, "signal revoked")
    return [result.state, repr(result.result)]


@prefork_only
def revoked_while_it_runs(t: Any) -> Steps:
    results = [t.slow.apply_async((20,), link_error=t.errback.s()) for _ in range(2)]
    for result, signal in zip(results, ("SIGTERM", "SIGKILL"), strict=True):
        yield t.happened(result.id, "body")
        result.revoke(terminate=True, signal=signal)
        yield result
        yield t.happened(result.id, "signal revoked")
    return [[result.state, repr(result.result)] for result in results]


@prefork_only
def revoked_by_its_stamp(t: Any) -> Steps:
    work = t.add.si(1, 1)
    work.stamp(customer="gone")
    t.app.control.revoke_by_stamped_headers({"customer": ["gone"]}, reply=True)
    result = work.apply_async()
    yield result
    return [result.state, repr(result.result)]


@scenario
def aborted(t: Any) -> Steps:
    result = t.abortable.delay()
    yield t.happened(result.id, "body")
    result.abort()
    yield t.happened(result.id, "aborted")
    yield lambda: result.state == "SUCCESS"
    return seen(result)


@scenario
def calls_within_a_call(t: Any) -> Steps:
    result = t.parent.delay(3)
    yield result
    yield from result.children
    return [seen(result), sorted(seen(child)[1] for child in result.children)]


@prefork_only
def calls_in_its_own_process(t: Any) -> Steps:
    result = t.inline.delay()
    yield result
    return seen(result)


@prefork_only
def other_encodings(t: Any) -> Steps:
    results = [
        t.pickled.delay((3, 1, 2)),
        t.pickled.apply_async((["b", "a"],), serializer="json", compression="bzip2"),
        t.add.apply_async((1, 2), serializer="pickle", compression="zlib"),
    ]
    yield from results
    return [seen(result) for result in results]


@prefork_only
def routes_of_the_operator(t: Any) -> Steps:
    results = [
        t.routed.delay(),
        t.add.apply_async((1, 1), queue="own"),
        t.add.apply_async((2, 2), routing_key="own"),
    ]
    yield from results[:2]
    yield results[2]
    return [seen(result) for result in results]


@prefork_only
def priorities(t: Any) -> Steps:
    results = [*(t.asked.apply_async(priority=priority) for priority in (0, 4, 9)), t.asked.delay()]
    yield from results
    return [result.get()["delivery_info"]["priority"] for result in results]


@scenario
def hooks_of_a_class(t: Any) -> Steps:
    results = [t.hooked.delay(what) for what in ("well", "retry", "fail")]
    yield from results
    yield from (t.happened(result.id, "after_return") for result in results)
    return [seen(result) for result in results]


@prefork_only
def too_much_memory(t: Any) -> Steps:
    """The process that used it is replaced, after the task."""
    result = t.memory.delay(260_000_000)
    yield result
    pid = t.client.get(f"{t.NAME}:pid")
    yield lambda: not os.path.exists(f"/proc/{pid}")
    return result.state


@prefork_only
def old_results_are_cleaned_up(t: Any) -> Steps:
    result = t.app.send_task("celery.backend_cleanup")
    yield result
    return seen(result)


@prefork_only
def a_worker_is_asked(t: Any) -> Steps:
    # It waits until it was asked for, however long that takes.
    waiting = t.add.apply_async((1, 1), countdown=600)
    yield t.happened(waiting.id, "signal received")
    inspect = t.app.control.inspect(timeout=5, limit=1)
    found = inspect.query_task(waiting.id)["w@parity"][waiting.id][0]
    scheduled = [
        e["request"]["id"] for e in inspect.scheduled()["w@parity"] if e["request"]["id"] == waiting.id
    ]
    registered = [
        name.split(" [")[0] for name in inspect.registered()["w@parity"] if name.startswith("parity.")
    ]
    waiting.revoke()
    yield waiting
    return [scheduled, found, sorted(registered), waiting.state]
