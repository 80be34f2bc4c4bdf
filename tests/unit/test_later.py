"""A mapping that is made later says what it is made of, and is made once, when somebody asks."""

from __future__ import annotations

from balancer.decide.later import Later


class Made:
    """A mapping of squares that counts how often it is made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[int, int]:
        self.times += 1
        return {i: i * i for i in range(4)}


def test_nothing_is_made_before_somebody_asks_and_all_of_it_once() -> None:
    make = Made()
    squares = Later(make)
    assert make.times == 0
    assert [squares[3], squares.get(4)] == [9, None]
    assert [*squares, len(squares)] == [0, 1, 2, 3, 4]
    assert make.times == 1


def test_it_equals_the_mapping_that_is_made() -> None:
    assert Later(Made()) == {0: 0, 1: 1, 2: 4, 3: 9}
    assert Later(Made()) != {0: 0}
