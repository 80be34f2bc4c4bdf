"""A step's last answers are kept for the very same inputs, and for no others."""

from __future__ import annotations

from balancer.decide.kept import LAST, kept


class Asked:
    """A step that counts how often it is worked out."""

    def __init__(self) -> None:
        self.times = 0
        self.step = kept(self._work)

    def _work(self, *parts: object) -> tuple[int, tuple[object, ...]]:
        self.times += 1
        return self.times, parts


def test_the_very_same_inputs_get_the_same_answer() -> None:
    asked, one = Asked(), {"a": 1}
    assert asked.step(one) is asked.step(one)
    assert asked.times == 1


def test_equal_inputs_that_are_others_are_worked_out_anew() -> None:
    asked = Asked()
    assert asked.step({"a": 1}) != asked.step({"a": 1})
    assert asked.step({"a": 1}, None)[1] == ({"a": 1}, None)


def test_a_tuple_is_the_same_when_its_parts_are() -> None:
    asked, part = Asked(), {"a": 1}
    assert asked.step((part, part)) is asked.step((part, part))
    assert asked.step((part,)) is not asked.step((part, part))
    assert asked.step(({"a": 1}, part)) is not asked.step((part, part))


def test_only_the_last_answers_are_kept() -> None:
    asked, inputs = Asked(), [{"a": i} for i in range(LAST + 1)]
    first = asked.step(inputs[0])
    for each in inputs[1:]:
        asked.step(each)
    assert asked.step(inputs[0]) != first
