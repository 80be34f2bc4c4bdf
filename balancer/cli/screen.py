"""What the commands print with: a console that cuts nothing in a pipe, and tables without empty columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

#: Columns where no terminal sets a limit: a pipe gets each line whole.
WIDE: Final = 1000

#: What stands where nothing is known.
UNKNOWN: Final = "–"


def console() -> Console:
    """Standard output."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(width=WIDE, highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *,
          keep: int = 1, styles: Sequence[str] = ()) -> Table:
    """A table without lines, so that it can be copied. Beyond the first `keep` columns, those in which
    nothing is known are left out. Cells may hold markup; `styles` go by row."""
    cells = [list(row) for row in rows]
    shown = [n for n in range(len(columns)) if n < keep or any(row[n] not in (UNKNOWN, "") for row in cells)]
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for n in shown:
        made.add_column(columns[n], overflow="fold")
    for place, row in enumerate(cells):
        made.add_row(*(row[n] for n in shown), style=styles[place] if styles else None)
    return made


def labelled(rows: Iterable[tuple[str, str]]) -> Table:
    """Lines of a label and a text that wraps beside it. Plain text, no markup."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(Text(label), Text(text))
    return grid


def hardware(name: str, emulated: bool) -> str:
    """A hardware class as people read it (as markup): what is emulated is called so."""
    return escape(name) + (" (emulated)" if emulated else "")


def share(value: float | None) -> str:
    """A share of 0–1 in per cent."""
    return UNKNOWN if value is None else f"{value:.0%}"


def number(value: float | None, digits: int = 2) -> str:
    """A number for a person; what is unknown is a dash."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def few(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
