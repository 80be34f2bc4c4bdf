"""`celery balancer status [--json]`: the fleet at this moment.

It reads and changes nothing. One document, of plain values, is printed as JSON or drawn as tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from balancer import wiring
from balancer.adapters import redis_view
from balancer.loop import AdaptiveLoadBalancer
from balancer.model import Order, Worker

Document = dict[str, Any]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the fleet now: workers, lanes, the order each class follows, moves under way, the lease."""
    document = status_document(ctx.obj.app)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        draw(document, Console())


def status_document(app: Any) -> Document:
    """The fleet as plain values. Raises `StoreError` when Redis does not answer."""
    balancer = onlooker(app)
    fleet = balancer.standing.fleet
    assert fleet is not None, "a look has seen the fleet"
    stats = balancer.get_load_balancer_stats()
    decision = balancer.preview()
    connection = wiring.connection_of(app, balancer.settings)
    return {
        "holder": stats["holder"],
        "strategy": stats["strategy"],
        "system_load": {"average": decision.load.average, "deviation": decision.load.deviation,
                        "imbalance": decision.load.imbalance},
        "thresholds": stats.get("thresholds", {}),
        "prediction_accuracy": decision.accuracy,
        "imbalance": decision.imbalance.kind if decision.imbalance else None,
        "totals": stats["totals"],
        "workers": [_worker(w) for w in sorted(fleet.workers, key=lambda w: w.name)],
        "lanes": [{"queue": lane.queue, "profile": lane.profile.name, "waiting": lane.waiting,
                   "oldest_s": lane.oldest_s, "mean_size": lane.mean_size} for lane in fleet.lanes],
        "queues": {queue: waiting for queue, waiting in fleet.queues.items() if waiting},
        "orders": {name: _order(order, fleet.at)
                   for name, order in redis_view.orders(connection, fleet.classes).items()},
        "moves": stats["migrations_in_flight"],
        "silent": list(fleet.silent),
        "set_aside": [{"source": a.source, "reason": a.reason} for a in fleet.set_aside],
    }


def draw(document: Document, console: Console) -> None:
    """The document as tables."""
    for line in _headlines(document):
        console.print(line)
    if not document["workers"]:
        console.print("No worker reports.")
    else:
        console.print(_workers_table(document["workers"]))
    waiting = [lane for lane in document["lanes"] if lane["waiting"]]
    if waiting or document["queues"]:
        console.print(_lanes_table(waiting, document["queues"]))
    console.print(_orders_table(document))
    if document["moves"]:
        console.print(_moves_table(document["moves"]))
    for one in document["set_aside"]:
        console.print(f"set aside: {escape(one['source'])}: {escape(one['reason'])}", style="yellow")


def onlooker(app: Any) -> AdaptiveLoadBalancer:
    """A balancer that has looked and takes no lease."""
    balancer = wiring.build(app)
    balancer.look()
    return balancer


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
    holder = escape(document["holder"]) if document["holder"] else "[yellow]nobody: no balancer runs[/]"
    accuracy = document["prediction_accuracy"]
    lines = [
        f"balancer {holder} · strategy {document['strategy']}",
        f"load {load['average']:.0%} ± {load['deviation']:.0%}, max − min {load['imbalance']:.0%}"
        f" · imbalance {document['imbalance'] or 'none'}",
        f"forecasts {'not judged yet' if accuracy is None else f'{accuracy:.0%} accurate'}"
        f" · moves ended {totals['initiated']}, well {totals['successful']}",
    ]
    if bounds:
        lines.insert(2, f"thresholds {bounds['low']:.2f} – {bounds['high']:.2f}"
                        f" (set: {bounds['initial_low']:.2f} – {bounds['initial_high']:.2f})")
    if document["silent"]:
        lines.append(f"[red]silent: {escape(', '.join(document['silent']))}[/]")
    return lines


def table_of(*columns: str, title: str) -> Table:
    """A table without lines, so that it can be copied."""
    return Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def _workers_table(workers: list[Document]) -> Table:
    table = table_of("worker", "class", "slots", "reserved", "cpu", "memory", "gpu", "gpu mem", "°C", "W",
                   "health", title=f"\nWorkers ({len(workers)})")
    for w in workers:
        load: Mapping[str, float] = w["load"]
        health = w["health"] if w["health"] == "ok" else f"[red]{w['health']}[/]"
        kind = escape(w["class"]) + (" (emulated)" if w["emulated"] else "")
        table.add_row(escape(w["name"]), kind, f"{w['busy']}/{w['slots']}", str(w["reserved"] or "–"),
                      *(_share(load.get(name)) for name in ("cpu", "memory", "gpu", "gpu_memory")),
                      number(w["temperature_celsius"], 0), number(w["power_w"], 0), health)
    return table


def _lanes_table(lanes: list[Document], queues: Mapping[str, int]) -> Table:
    table = table_of("queue", "waiting", "oldest s", "mean size", title="\nBacklog")
    for lane in sorted(lanes, key=lambda one: -one["waiting"]):
        table.add_row(escape(lane["queue"]), str(lane["waiting"]), number(lane["oldest_s"], 1),
                      number(lane["mean_size"]))
    for queue, waiting in queues.items():
        table.add_row(escape(queue), str(waiting), "–", "–")
    return table


def _orders_table(document: Document) -> Table:
    table = table_of("class", "age s", "price", "serves, in order (ties in brackets)", title="\nOrders")
    emulated = {w["class"] for w in document["workers"] if w["emulated"]}
    for name, order in document["orders"].items():
        label = escape(name) + (" (emulated)" if name in emulated else "")
        if order is None:
            table.add_row(label, "–", "–", "no order: every lane it can serve")
            continue
        groups = (", ".join(q.removeprefix("bal.lane.") for q in group) for group in order["groups"])
        several = (f"[{g}]" if ", " in g else g for g in groups)
        table.add_row(label, number(order["age_s"], 1), number(order["price"]),
                      escape(" ".join(several)) or "nothing")
    return table


def _moves_table(moves: list[Document]) -> Table:
    table = table_of("task", "kind", "from", "to", "state", "why", title="\nMoves under way")
    for one in moves:
        move = one["move"]
        table.add_row(escape(move["task_id"]), move["kind"], escape(move["source"]), escape(move["target"]),
                      one["state"], escape(move["reason"]))
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def number(value: float | None, digits: int = 2) -> str:
    """A number for a person; what is unknown is a dash."""
    return "–" if value is None else f"{value:.{digits}f}"
