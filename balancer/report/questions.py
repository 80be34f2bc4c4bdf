"""Questions to the ledger, and the span of time they are about.

Each question is a file of `sql/` that aggregates inside DuckDB, so that what reaches a picture
is bounded however long the ledger is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from balancer.errors import LedgerError
from balancer.report.words import in_number

Rows = list[dict[str, Any]]

#: Answers a query: statement and named parameters in, rows out. Raises `LedgerError`.
Ask = Callable[[str, Mapping[str, Any]], Rows]

#: Widths of a time bucket (s) that read well on an axis.
BUCKETS: Final = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    21600,
    43200,
    86400,
    604800,
)

#: With more workers than this a picture by worker becomes one by hardware class.
MOST_ROWS: Final = 48

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time from `since` to `until` (epoch seconds) that the ledger has something of.

    `tick_s` is the usual time between two ticks; no bucket is much narrower (ticks that come a
    little late shall not double the width). `detailed` is when rows of anything but ticks begin, which
    go after `balancer_ledger_days`; `None` where there are none.
    """

    since: float
    until: float
    tick_s: float = 0.0
    detailed: float | None = None

    @property
    def span_s(self) -> float:
        return self.until - self.since

    def bucket_s(self, most: int) -> int:
        """The narrowest bucket of `BUCKETS` with which the span has at most `most` of them."""
        wanted = max(self.span_s / most, min(0.9 * self.tick_s, self.span_s / 4))
        return next((width for width in BUCKETS if width >= wanted), BUCKETS[-1])


def window(ask: Ask, *, days: float | None = None, now: float) -> Window | None:
    """What the ledger covers, of the last `days` before `now` where given; `None` when that is nothing.

    Raises `LedgerError` where the ledger has entries but none so recent.
    """
    (row,) = ask(statement("span"), {})
    if row["first"] is None:
        return None
    since = row["first"] if days is None else max(row["first"], now - days * DAY_S)
    if since > row["last"]:
        ago = (now - row["last"]) / DAY_S
        raise LedgerError(
            f"the ledger has nothing of the last {days:g} {in_number(days or 0, 'day')}; "
            f"its last entry is {ago:.1f} days old (see --days)"
        )
    return Window(since=since, until=row["last"], tick_s=row["tick_s"] or 0.0, detailed=row["detailed"])


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return resources.files("balancer.report").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def answer(ask: Ask, name: str, span: Window, *, buckets: int = 180, **more: Any) -> Rows:
    """The rows of question `name` over the span, in at most `buckets` buckets of time."""
    text = statement(name)
    given = {
        "since_us": round(span.since * 1e6),
        "until_us": round(span.until * 1e6),
        "bucket_s": span.bucket_s(buckets),
        "most_rows": MOST_ROWS,
        **more,
    }
    wanted = set(re.findall(r"\$(\w+)", text))
    return ask(text, {key: value for key, value in given.items() if key in wanted})
