"""Speeds by name and as a column: the same, whatever was learned in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.speeds import Speeds
from balancer.decide.thawed import thawed
from balancer.model.table import Roster
from tests.unit.fleets import worker

NAMES = tuple(f"cpu-{i}" for i in range(6))
ROSTERS = [Roster([worker("cpu", i) for i in some]) for some in (range(6), (4, 0, 2), (5, 1))]
SPEEDS = st.dictionaries(st.sampled_from(NAMES), st.floats(0.1, 10.0), max_size=4)


def by_name(speeds: Speeds, roster: Roster) -> list[float]:
    return [speeds.get(name, 1.0) for name in roster.names]


@given(SPEEDS, st.lists(st.tuples(SPEEDS, st.sampled_from(ROSTERS), st.sampled_from(NAMES)), max_size=6))
def test_the_column_says_what_the_names_say(first: dict[str, float], steps: list[object]) -> None:
    speeds = Speeds(first)
    for more, roster, left in steps:  # type: ignore[misc]
        before, column = dict(speeds), speeds.column(roster)
        kept = column.tolist()
        values = {**before, **more}
        values.pop(left, None)
        after = speeds.then(values, {*more, left})
        assert after.column(roster).tolist() == by_name(after, roster)
        assert (dict(speeds), speeds.column(roster).tolist()) == (before, kept)
        speeds = after


def test_a_copy_may_be_changed() -> None:
    speeds = Speeds({"a": 2.0})
    copy = thawed(speeds)
    copy["a"] = 3.0
    assert speeds == {"a": 2.0}
    assert Speeds.of(speeds) is speeds
