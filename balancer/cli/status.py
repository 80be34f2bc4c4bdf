"""`celery balancer status [--json]`: the fleet at this moment.

It reads and changes nothing. One document, of plain values, is printed as JSON or drawn as tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from balancer import strangers, wiring
from balancer.adapters import redis_failed, redis_view
from balancer.cli.screen import console, few, hardware, number, share, table
from balancer.decide.gpu_memory import gpu_memory
from balancer.model import Needs, Order, Worker
from balancer.report.words import count, in_number
from balancer.routing import unfit_reason
from balancer.standing import OWN, RUNNING

Document = dict[str, Any]

#: Groups of an order, and profiles of a group, that are drawn; JSON has all of them.
GROUPS_SHOWN: Final = 3
PROFILES_SHOWN: Final = 5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the fleet now: workers, lanes, the order each class follows, moves under way, the lease."""
    document = status_document(ctx.obj.app)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        draw(document, console())


def status_document(app: Any) -> Document:
    """The fleet as plain values. Raises `StoreError` when Redis does not answer."""
    balancer = wiring.onlooker(app)
    fleet = balancer.standing.fleet
    assert fleet is not None, "a look has seen the fleet"
    stats = balancer.get_load_balancer_stats()
    decision = balancer.preview()
    connection = wiring.connection_of(app, balancer.settings)
    look = strangers.last_look(connection)
    return {
        "holder": stats["holder"],
        **{name: stats[name] for name in ("strategy", "dry_run", "settings_from", "settings_age_s")},
        "system_load": {"average": decision.load.average, "deviation": decision.load.deviation,
                        "imbalance": decision.load.imbalance},
        "thresholds": stats.get("thresholds", {}),
        "prediction_accuracy": decision.accuracy,
        "imbalance": decision.imbalance.kind if decision.imbalance else None,
        "totals": stats["totals"],
        "power": stats.get("power", {}),
        "groups": stats["groups"],
        "may_sleep": stats["may_sleep"],
        "workers": [_worker(w) for w in sorted(fleet.workers, key=lambda w: w.name)],
        "lanes": [{"queue": lane.queue, "profile": lane.profile.name, "group": lane.profile.group,
                   "waiting": lane.waiting, "oldest_s": lane.oldest_s, "due_s": lane.due_s,
                   "mean_size": lane.mean_size,
                   "nobody_can": nobody_can(fleet.workers, lane.profile.needs) if lane.waiting else None}
                  for lane in fleet.lanes],
        "queues": {queue: waiting for queue, waiting in fleet.queues.items() if waiting},
        "orders": {name: _order(order, fleet.at)
                   for name, order in redis_view.orders(connection, fleet.classes).items()},
        "gpu_memory": asdict(memory) if (memory := gpu_memory(fleet)) else None,
        "moves": stats["migrations_in_flight"],
        "silent": list(fleet.silent),
        "set_aside": [{"source": a.source, "reason": a.reason}
                      for a in (*fleet.set_aside, *(look.asides() if look else ()))],
        "failed": len(redis_failed.listed(connection)),
    }


def draw(document: Document, out: Console) -> None:
    """The document as tables."""
    for line in _headlines(document):
        out.print(line)
    if document["workers"]:
        out.print(_workers_table(document["workers"]))
    else:
        out.print("\nNo worker reports. Start one: celery -A PROJ worker --hardware auto")
    if told := [f"{escape(name)} {one['slot_w']:.0f} W ({one['source']})"
                for name, one in document.get("power", {}).items() if one["slot_w"] is not None]:
        out.print(f"a slot in use draws: {', '.join(told)}", soft_wrap=True)
    waiting = [lane for lane in document["lanes"] if lane["waiting"]]
    if waiting or document["queues"]:
        out.print(_lanes_table(waiting, document["queues"]))
    for lane in waiting:
        if lane["nobody_can"] and document["workers"]:
            out.print(f"[red]no worker can run {escape(lane['profile'])}[/]: "
                      f"{escape('; '.join(lane['nobody_can']))}")
    _draw_orders(document, out)
    if document["moves"]:
        out.print(_moves_table(document["moves"]))
    if document.get("failed"):
        aside = document["failed"]
        out.print(f"[red]{count(aside, 'task')} {in_number(aside, 'is', 'are')} set aside, because "
                  f"{in_number(aside, 'it', 'they')} ended what ran {in_number(aside, 'it', 'them')}[/]: "
                  "celery -A PROJ balancer failed", soft_wrap=True)
    for one in document["set_aside"]:
        out.print(f"set aside: {escape(one['source'])}: {escape(one['reason'])}", style="yellow")


def nobody_can(workers: Iterable[Worker], needs: Needs) -> list[str] | None:
    """Why no worker can ever run such tasks, each reason once; `None` when one can."""
    reasons: dict[str, None] = {}
    for worker in workers:
        reason = unfit_reason(worker.hardware, needs, worker=worker.name)
        if reason is None:
            return None
        reasons[reason] = None
    return list(reasons)


def settings_from(document: Document) -> str:
    """Whose settings a document is told by, in words."""
    whose, age_s = document.get("settings_from", OWN), document.get("settings_age_s")
    if whose == RUNNING:
        return "as the running balancer was started" + ("" if age_s is None else f", told {age_s:.1f} s ago")
    return f"as set in {whose}" + ("" if not document.get("holder") or whose != OWN else
                                   "; the running balancer has not told its own")


def _worker(worker: Worker) -> Document:
    return {
        "name": worker.name, "class": worker.hardware.hardware_class, "emulated": worker.hardware.emulated,
        "telemetry": worker.hardware.telemetry, "health": worker.health,
        "slots": worker.slots, "busy": max(worker.busy, len(worker.running)),
        "reserved": len(worker.reserved), "load": worker.dimensions(),
        "temperature_celsius": worker.reading.temperature_celsius, "power_w": worker.reading.power_w,
        "running": [task.task_id for task in worker.running],
    }


def _order(order: Order | None, now: float) -> Document | None:
    if order is None:
        return None
    return {"groups": [list(group) for group in order.groups], "age_s": max(0.0, now - order.at),
            "price": order.price, "strategy": order.strategy, "exclusive": order.exclusive}


def _headlines(document: Document) -> list[str]:
    load, bounds, totals = document["system_load"], document["thresholds"], document["totals"]
    holder, accuracy = document["holder"], document["prediction_accuracy"]
    found = {"current": "[yellow]now[/]", "predicted": "[yellow]foreseen[/]", None: "none"}
    lines = [
        f"balancer [bold]{escape(holder)}[/]" if holder else
        "[yellow]no balancer runs[/]; start one: celery -A PROJ beat",
        f"strategy {escape(document['strategy'])} ({escape(settings_from(document))})",
        f"load {load['average']:.0%} ± {load['deviation']:.0%}, most − least {load['imbalance']:.0%}; "
        f"imbalance: {found[document['imbalance']]}",
        f"load forecasts: {'none judged yet' if accuracy is None else f'{accuracy:.0%} accurate'}; "
        f"moves: {totals['initiated']} ended, {totals['successful']} of them as meant",
    ]
    if document.get("dry_run"):
        lines.insert(2, "[yellow]dry run: nothing is moved[/]")
    if bounds:
        lines.insert(-1, f"thresholds {bounds['low']:.2f} – {bounds['high']:.2f}"
                        f" (set: {bounds['initial_low']:.2f} – {bounds['initial_high']:.2f})")
    if ahead := {name: by for name, by in document.get("groups", {}).items() if by > 0}:
        told = (f"{escape(name) or 'without a group'} {by:.0f} s" for name, by in ahead.items())
        lines.append(f"groups that had more than their share go after the others: {', '.join(told)} ahead")
    if document.get("may_sleep"):
        lines.append(f"nodes that may sleep: {escape(', '.join(document['may_sleep']))}")
    if memory := document.get("gpu_memory"):
        used = 1 - memory["free_bytes"] / memory["total_bytes"]
        lost = memory["unusable_bytes"] / memory["total_bytes"]
        lines.append(f"GPU memory: {used:.0%} taken; {lost:.0%} is free and of no use to the usual tasks")
    if document["silent"]:
        lines.append(f"[red]silent: {escape(', '.join(document['silent']))}[/]")
    return lines


def _workers_table(workers: list[Document]) -> Any:
    rows = []
    for w in workers:
        load: Mapping[str, float] = w["load"]
        rows.append((
            escape(w["name"]), hardware(w["class"], w["emulated"]), f"{w['busy']}/{w['slots']}",
            str(w["reserved"] or ""),
            *(share(load.get(name)) for name in ("cpu", "memory", "gpu", "gpu_memory", "io")),
            number(w["temperature_celsius"], 0), number(w["power_w"], 0),
            "" if w["health"] == "ok" else f"[red]{escape(w['health'])}[/]",
        ))
    columns = ("worker", "class", "busy", "held", "cpu", "mem", "gpu", "vram", "io", "°C", "W", "health")
    well = "" if any(w["health"] != "ok" for w in workers) else ", all healthy"
    return table(f"\nWorkers ({len(workers)}{well})", columns, rows, keep=3)


def _lanes_table(lanes: list[Document], queues: Mapping[str, int]) -> Any:
    rows = [(escape(lane["profile"]), str(lane["waiting"]), number(lane["oldest_s"], 1),
             number(lane["mean_size"])) for lane in sorted(lanes, key=lambda one: -one["waiting"])]
    rows += [(f"queue {escape(queue)}", str(waiting), "–", "–") for queue, waiting in queues.items()]
    total = sum(lane["waiting"] for lane in lanes) + sum(queues.values())
    return table(f"\nBacklog ({total})", ("profile", "waiting", "oldest s", "mean size"), rows, keep=2)


def _draw_orders(document: Document, out: Console) -> None:
    """Per class, what it serves first, in groups of ties."""
    if not document["orders"]:
        return
    names = {lane["queue"]: lane["profile"] for lane in document["lanes"]}
    emulated = {w["class"] for w in document["workers"] if w["emulated"]}
    out.print("\n[bold]Orders[/]: what each class serves first; lanes of one line are ties, by age")
    dearest = max((order["price"] for order in document["orders"].values() if order), default=0.0)
    for name, order in document["orders"].items():
        label = hardware(name, name in emulated)
        if order is None:
            out.print(f"{label}: no order; every lane it can serve")
            continue
        out.print(f"{label}: price {_price(order['price'], dearest)}, {order['age_s']:.1f} s old"
                  + ("" if order["groups"] else "; serves nothing now"))
        for line in _groups(order["groups"], names):
            out.print(Padding(escape(line), (0, 0, 0, 2), expand=False))


def _price(price: float, dearest: float) -> str:
    """What a slot of a class is worth beside one of the dearest: in a large fleet all prices are small."""
    part = price / dearest if dearest else 0.0
    return f"{'under 1%' if 0 < part < 0.01 else share(part)} of the dearest"


def _groups(groups: list[list[str]], names: Mapping[str, str]) -> Iterator[str]:
    for place, group in enumerate(groups[:GROUPS_SHOWN], start=1):
        profiles = [names.get(queue, queue.removeprefix("bal.lane.")) for queue in group]
        yield f"{place}. {few(profiles, PROFILES_SHOWN)}"
    later = sum(len(group) for group in groups[GROUPS_SHOWN:])
    if later:
        yield f"   and {later} more {in_number(later, 'profile')} after these (--json has all)"


def _moves_table(moves: list[Document]) -> Any:
    rows = [(escape(one["move"]["task_id"]), one["move"]["kind"], escape(one["move"]["source"]),
             escape(one["move"]["target"]), one["state"], escape(one["move"]["reason"])) for one in moves]
    return table("\nMoves under way", ("task", "kind", "from", "to", "state", "why"), rows)
