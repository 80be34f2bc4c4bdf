"""Tests that can fail: each asserts something, none sleeps blindly, unit tests use no mocks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.sources import Function, calls, dotted, files, functions, tree

#: Calls that fail a test by themselves.
FAILING_CALLS = {"pytest.raises", "pytest.warns", "pytest.fail", "wait_until"}


def asserts(function: Function, among: dict[str, Function], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a function can fail: it asserts, or calls what does (in `among`, by name)."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
    for name in calls(function):
        last = name.rpartition(".")[2]
        if name in FAILING_CALLS or last in FAILING_CALLS or last.startswith(("assert_", "check_")):
            return True
        if last in among and last not in seen and asserts(among[last], among, seen | {last}):
            return True
    return False


def without_assertion(module: ast.Module) -> list[str]:
    among = {function.name: function for function in functions(module)}
    return [
        name for name, function in among.items() if name.startswith("test_") and not asserts(function, among)
    ]


def sleeps(module: ast.Module) -> list[str]:
    """Functions that sleep, except the one that polls and the bodies of Celery tasks."""
    found = []
    for function in functions(module):
        is_task = any("task" in ast.unparse(decorator).lower() for decorator in function.decorator_list)
        if function.name == "wait_until" or is_task:
            continue
        if any(name in ("time.sleep", "sleep", "asyncio.sleep") for name in calls(function)):
            found.append(function.name)
    return found


def mocks(module: ast.Module) -> list[str]:
    """What a module imports or asks for to replace objects by mocks."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith(("unittest.mock", "mock"))]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += sorted(n for n in names if n.startswith(("unittest.mock", "mock.")))
        elif isinstance(node, ast.arg) and node.arg == "mocker":
            found.append("mocker")
    return found


def offenders(paths: tuple[Path, ...], rule: object) -> list[str]:
    assert callable(rule)
    return [f"{path}: {found}" for path in paths for found in rule(tree(path))]


def test_every_test_asserts_something() -> None:
    tests = tuple(path for path in files("tests") if path.name.startswith("test_"))
    assert len(tests) > 5
    assert offenders(tests, without_assertion) == []


def test_no_test_sleeps_blindly() -> None:
    assert offenders(files("tests"), sleeps) == []


def test_unit_tests_use_no_mocks() -> None:
    assert offenders(files("tests/unit"), mocks) == []


def test_no_test_is_hidden_by_a_later_one() -> None:
    for path in files("tests"):
        names = [node.name for node in tree(path).body if isinstance(node, Function)]
        assert len(names) == len(set(names)), path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def test_a():\n  run()", ["test_a"]),
        ("def test_a():\n  assert True", ["test_a"]),
        ("def test_a():\n  assert x == 1", []),
        ("def test_a():\n  with pytest.raises(ValueError): f()", []),
        ("def test_a():\n  helper()\ndef helper():\n  assert x", []),
        ("def test_a():\n  helper()\ndef helper():\n  helper()", ["test_a"]),
    ],
)
def test_a_test_without_assertion_is_found(source: str, expected: list[str]) -> None:
    assert without_assertion(ast.parse(source)) == expected


def test_sleeps_and_mocks_are_found() -> None:
    module = ast.parse(
        "import unittest.mock\nfrom unittest import mock\ndef test_a(mocker):\n  time.sleep(1)"
    )
    assert mocks(module) == ["unittest.mock", "unittest.mock", "mocker"]
    assert sleeps(module) == ["test_a"]
    assert (
        sleeps(ast.parse("@app.task\ndef work():\n  time.sleep(1)\ndef wait_until():\n  time.sleep(1)")) == []
    )
    assert dotted(ast.parse("a.b.c", mode="eval").body) == "a.b.c"
