"""Scenarios of canvas: what a client composes, and what it sees of it. Run by `parity_client`."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group
from celery.canvas import StampingVisitor, signature
from celery.result import GroupResult, result_from_tuple

from tests.system.parity_scenarios import Steps, prefork_only, scenario, seen


def family(result: Any) -> list[Any]:
    """The ids of the results that led to this one."""
    return [] if result is None else [result.id, *family(result.parent)]


@scenario
def chain_of_three(t: Any) -> Steps:
    result = chain(t.add.s(1, 2), t.add.s(10), t.add.s(y=100)).apply_async()
    yield result
    first = result.parent.parent
    collected = [[found.id, value] for found, value in first.collect(intermediate=True)]
    return [seen(result), family(result), collected, [child.id for child in first.children]]


@scenario
def immutable_chain(t: Any) -> Steps:
    result = chain(t.add.si(1, 1), t.echo.si(2, key=3)).apply_async()
    yield result
    return seen(result)


@scenario
def group_of_four(t: Any) -> Steps:
    result = group(t.add.s(n, n) for n in range(4)).apply_async()
    result.save()
    yield result
    again = GroupResult.restore(result.id, app=t.app)
    tuple_again = result_from_tuple(result.as_tuple(), app=t.app)
    return [
        result.join(),
        again.join_native(),
        tuple_again.get(),
        result.completed_count(),
        result.successful(),
    ]


@scenario
def group_that_fails_in_part(t: Any) -> Steps:
    result = group(t.add.s(1, 1), t.fail.s(), t.add.s(2, 2)).apply_async()
    yield result
    return [result.failed(), result.completed_count(), [seen(child) for child in result.results]]


@scenario
def group_with_callbacks(t: Any) -> Steps:
    signatures = group(t.add.s(1, 1), t.fail.s())
    signatures.link(t.add.s(5))
    signatures.link_error(t.errback.s())
    result = signatures.apply_async()
    yield result
    yield lambda: result.results[0].children
    yield result.results[0].children[0]
    return [child.state for child in result.results]


@prefork_only
def skewed_group(t: Any) -> Steps:
    result = group(t.add.s(n, n) for n in range(3)).skew(start=0, stop=0.3, step=0.1).apply_async()
    yield result
    return result.join()


@scenario
def simple_chord(t: Any) -> Steps:
    result = chord([t.add.s(n, n) for n in range(5)], t.total.s()).apply_async()
    yield result
    return [seen(result), result.parent.join()]


@scenario
def chord_without_a_header(t: Any) -> Steps:
    result = chord([], t.total.s()).apply_async()
    yield result
    return seen(result)


@prefork_only
def chord_of_one(t: Any) -> Steps:
    result = chord(t.add.s(1, 2), t.total.s()).apply_async()
    yield result
    return seen(result)


@scenario
def nested_chords(t: Any) -> Steps:
    inner = chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s())
    other = chord([t.add.s(3, 3), chain(t.add.s(4, 4), t.add.s(1))], t.total.s())
    result = chord([inner, other], t.total.s()).apply_async()
    yield result
    return seen(result)


@prefork_only
def chords_in_a_chain(t: Any) -> Steps:
    fan = group(t.add.s(1), t.add.s(2), group(t.add.s(3), t.add.s(4)))
    result = chain(t.add.s(1, 1), fan, t.total.s(), group(t.add.s(5), t.add.s(6)), t.total.s(), t.add.s(7))()
    yield result
    return [seen(result), len(family(result))]


@prefork_only
def chain_that_ends_in_a_group(t: Any) -> Steps:
    result = chain(t.add.s(1, 1), group(t.add.s(2), chain(t.add.s(3), t.add.s(4)))).apply_async()
    yield result
    return result.join()


@scenario
def chord_whose_member_fails(t: Any) -> Steps:
    body = t.total.s().on_error(t.errback.s())
    result = chord([t.add.s(1, 1), t.fail.s()], body).apply_async()
    yield result
    return seen(result)


@prefork_only
def chord_whose_member_retries(t: Any) -> Steps:
    result = chord([t.flaky.s(2, 10), t.flaky.s(1, 1)], t.total.s()).apply_async()
    yield result
    return seen(result)


@prefork_only
def chord_whose_body_fails(t: Any) -> Steps:
    result = chord([t.add.s(1, 1), t.add.s(2, 2)], t.fail.s()).on_error(t.errback.s()).apply_async()
    yield result
    return [seen(result), result.parent.join()]


@prefork_only
def chord_with_a_callback(t: Any) -> Steps:
    body = t.total.s()
    body.link(t.add.s(50))
    result = chord([t.add.s(1, 1)] * 2, body).apply_async()
    yield result
    yield lambda: result.children
    yield result.children[0]
    return [seen(result), seen(result.children[0])]


@prefork_only
def chord_joined_at_run_time(t: Any) -> Steps:
    result = chord([t.joins_chord.s(1), t.add.s(1, 1000)], t.total.s()).apply_async()
    yield result
    return seen(result)


@prefork_only
def map_starmap_and_chunks(t: Any) -> Steps:
    results = [
        t.total.map([[1, 2], [3, 4]]).apply_async(),
        t.add.starmap([(1, 2), (3, 4)]).apply_async(),
        t.add.chunks(zip(range(6), range(6), strict=True), 2).apply_async(),
        chain(t.add.s(1, 1), t.add.map([1, 2])).apply_async(),
    ]
    yield from results[:3]
    yield results[3]
    return [seen(results[0]), seen(results[1]), results[2].join(), seen(results[3])[0]]


@scenario
def replaced_by_a_task(t: Any) -> Steps:
    result = t.replaced.delay("task")
    yield result
    return [seen(result), [child.id for child in result.children or ()]]


@prefork_only
def replaced_by_a_chain_within_a_chain(t: Any) -> Steps:
    result = chain(t.add.s(0, 0), t.replaced.si("chain", 3), t.add.s(1000)).apply_async()
    yield result
    return seen(result)


@prefork_only
def replaced_by_a_group_within_a_chain(t: Any) -> Steps:
    result = chain(t.replaced.si("group", 3), t.total.s(), t.add.s(1000)).apply_async()
    yield result
    return seen(result)


@prefork_only
def replaced_by_a_chord_within_a_chord(t: Any) -> Steps:
    result = chord([t.replaced.s("chord"), t.replaced.s("chord", 2)], t.total.s()).apply_async()
    yield result
    return seen(result)


@prefork_only
def replaced_twice_within_a_chord(t: Any) -> Steps:
    result = chord([t.replaced.s("twice"), t.add.s(1, 1)], t.total.s()).apply_async()
    yield result
    return seen(result)


@prefork_only
def replaced_chord_body(t: Any) -> Steps:
    result = chord([t.add.s(1, 1), t.add.s(2, 2)], t.replaced.si("chord", 5)).apply_async()
    yield result
    return seen(result)


@scenario
def replaced_by_what_fails(t: Any) -> Steps:
    result = chain(t.replaced.s("fails"), t.add.s(1)).on_error(t.errback.s()).apply_async()
    yield lambda: result.parent.ready()
    return seen(result.parent)


@scenario
def callbacks_and_errbacks(t: Any) -> Steps:
    good = t.add.apply_async((1, 2), link=[t.add.s(10), t.echo.si("done")], link_error=t.errback.s())
    bad = t.fail.apply_async(link=t.add.s(10), link_error=[t.errback.s(), t.old_errback.s()])
    yield good
    yield bad
    yield lambda: len(good.children or ()) == 1 and all(c.ready() for c in good.children[0].results)
    return [seen(good), good.children[0].join(), seen(bad), bad.children]


@scenario
def chain_that_breaks(t: Any) -> Steps:
    result = chain(t.add.s(1, 1), t.fail.s(), t.add.s(1)).on_error(t.errback.s()).apply_async()
    yield result.parent
    return [seen(result.parent), result.state, result.parent.parent.get()]


@prefork_only
def chain_with_retries(t: Any) -> Steps:
    result = chain(t.add.s(1, 1), t.flaky.s(1), t.add.s(100)).apply_async()
    yield result
    return seen(result)


class Stamps(StampingVisitor):
    """Stamps each signature, and its callbacks, with where it stands."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"mark": f"of {sig.task}", "stamped_headers": ["mark"]}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        return {"on_callback": True}


@scenario
def stamped_canvas(t: Any) -> Steps:
    first = t.asked.si()
    first.link(t.add.si(1, 1))
    work = chord([first, t.asked.si()], t.asked.si())
    work.stamp(visitor=Stamps())
    result = work.apply_async()
    yield result
    told = [result.get(), *result.parent.join()]
    return [[sorted(one["stamped_headers"]), one["stamps"], one.get("mark")] for one in told]


@prefork_only
def stamped_by_hand(t: Any) -> Steps:
    work = t.asked.si()
    work.stamp(order=7, customer="x")
    results = [
        work.apply_async(),
        t.asked.apply_async(headers={"stamped_headers": ["a"], "stamps": {"a": 1}}),
    ]
    yield from results
    return [[sorted(r.get()["stamped_headers"]), r.get()["stamps"]] for r in results]


@prefork_only
def signatures_by_name(t: Any) -> Steps:
    plain = signature("parity.add", args=(1,), app=t.app)
    result = (plain.clone((2,)) | signature("parity.add", args=(3,), app=t.app)).apply_async()
    partial = t.add.s(1).set(countdown=0.2, priority=9).apply_async((4,))
    yield result
    yield partial
    return [seen(result), seen(partial)]


@prefork_only
def request_within_a_canvas(t: Any) -> Steps:
    result = chain(t.add.s(1, 1), chord([t.asked.si(), t.asked.si()], t.asked.s())).apply_async()
    yield result
    told = result.get()
    kept = ("id", "root_id", "parent_id", "group", "group_index", "chord", "chain", "callbacks", "retries")
    members = sorted(told["args"][0], key=lambda one: one["group_index"])
    return [{key: repr(one[key]) for key in kept} for one in (told, *members)]
