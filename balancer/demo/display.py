"""The demo on a screen: a live table on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from balancer.demo.crew import Member
from balancer.demo.watch import Now

#: Seconds between two plain lines, and between two pictures of the live table.
LINE_S: Final = 5.0
PICTURE_S: Final = 0.5

#: Columns of a worker's progress bar, and of the one of all jobs.
BAR: Final = 8
WHOLE_BAR: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is to be seen at one moment. `states` says of workers that are not simply there ("killed" …)."""

    elapsed_s: float
    total: int
    published: int
    done: int
    now: Mapping[str, Now] = field(default_factory=lambda: MappingProxyType({}))
    states: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    left: int = 0

    @property
    def running(self) -> int:
        return sum(bool(now.task_id) and self.states.get(now.worker) != "killed" for now in self.now.values())

    @property
    def waiting(self) -> int:
        return max(0, self.published - self.done - self.running)


class Display:
    """Shows scenes and announcements; a context manager, so that the terminal is left in order."""

    def __init__(self, console: Console, members: Sequence[Member]) -> None:
        self.console = console
        self.members = members
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._shown_at = 0.0

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str, elapsed_s: float | None = None) -> None:
        """Announce something that happens; on a terminal it stays above the live table."""
        if self._live is None:
            said = sentence if elapsed_s is None else f"{elapsed_s:5.1f} s  {sentence}"
            self.console.print(said, highlight=False, markup=False, soft_wrap=True)
        elif elapsed_s is None:
            self.console.print(Text(sentence))
        else:
            at = Table.grid(padding=(0, 2))
            at.add_row(Text(f"{elapsed_s:5.1f} s"), Text(sentence, style="yellow"))
            self.console.print(at)

    def show(self, scene: Scene, *, at_once: bool = False) -> None:
        """Show a scene, when it is time for a new one."""
        now, pause_s = time.monotonic(), PICTURE_S if self._live else LINE_S
        if now - self._shown_at < pause_s and not at_once:
            return
        self._shown_at = now
        if self._live is None:
            self.console.print(line(scene), highlight=False, markup=False, soft_wrap=True)
        else:
            self._live.update(picture(scene, self.members), refresh=True)


def line(scene: Scene) -> str:
    """One line of progress."""
    moves = f", {scene.left} moved while running" if scene.left else ""
    return (
        f"{scene.elapsed_s:5.1f} s  {scene.done} of {scene.total} done, {scene.running} running, "
        f"{scene.waiting} waiting{moves}"
    )


def picture(scene: Scene, members: Sequence[Member]) -> RenderableType:
    """The live table: one row a worker, and the progress of all below. Fits 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, width in (("worker", 6), ("hardware", 20), ("state", 12)):
        table.add_column(title, no_wrap=True, min_width=width)
    table.add_column("done", justify="right", no_wrap=True, min_width=4)
    table.add_column("progress", min_width=BAR)
    table.add_column("runs", no_wrap=True, overflow="ellipsis")
    for member in members:
        now, state = scene.now.get(member.name), scene.states.get(member.name, "")
        busy = now is not None and bool(now.task_id) and state != "killed"
        table.add_row(
            member.name.partition("@")[0], member.label, _state(state, busy), str(now.done if now else 0),
            ProgressBar(total=1.0, completed=now.share, width=BAR) if now is not None and busy else "",
            now.profile if now is not None and busy else "",
        )
    whole = Table.grid()
    whole.add_row(ProgressBar(total=max(1, scene.total), completed=scene.done, width=WHOLE_BAR))
    whole.add_row(Text(line(scene).strip()))
    return Group(Text(""), table, Text(""), whole)


def _state(state: str, busy: bool) -> Text:
    usual = "green" if busy else "dim"
    style = {"killed": "red", "slowed": "yellow", "not here yet": "dim"}.get(state, usual)
    shown = f"{state}, {'busy' if busy else 'idle'}" if state == "slowed" else state
    return Text(shown or ("busy" if busy else "idle"), style=style)
