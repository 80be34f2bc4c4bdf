"""Small rooms: files, functions and classes stay within the house's measures."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, Function, classes, dotted, files, functions, text, tree

#: Lines of a file, of a test's file, of a function without its docstring; attributes a class stores.
FILE_LINES, TEST_LINES, FUNCTION_LINES, ATTRIBUTES = 400, 500, 40, 8

#: Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}


def function_lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def is_record(cls: ast.ClassDef) -> bool:
    """Whether a class is a frozen dataclass: records may have as many fields as the thing has."""
    return any(
        isinstance(decorator, ast.Call)
        and dotted(decorator.func).endswith("dataclass")
        and any(k.arg == "frozen" and getattr(k.value, "value", False) is True for k in decorator.keywords)
        for decorator in cls.decorator_list
    )


def stored(cls: ast.ClassDef) -> set[str]:
    """Attributes that objects of a class store: `self.x = …`, slots, fields of a dataclass."""
    names: set[str] = set()
    for node in ast.walk(cls):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and dotted(node.value) == "self"
        ):
            names.add(node.attr)
    decorated = any("dataclass" in ast.unparse(decorator) for decorator in cls.decorator_list)
    for statement in cls.body:
        if isinstance(statement, ast.AnnAssign) and decorated:
            names.add(ast.unparse(statement.target))
        if isinstance(statement, ast.Assign) and dotted(statement.targets[0]) == "__slots__":
            names.update(ast.literal_eval(statement.value))
    return names


def too_long(paths: tuple[Path, ...], limit: int) -> list[str]:
    counted = ((path, len(text(path).splitlines())) for path in paths)
    return [f"{path}: {lines} lines" for path, lines in counted if lines > limit]


def named(paths: tuple[Path, ...]) -> Iterator[str]:
    return (part.removesuffix(".py") for path in paths for part in path.parts)


def test_files_are_short() -> None:
    assert too_long(files(*PACKAGES), FILE_LINES) == []
    assert too_long(files("tests"), TEST_LINES) == []


def test_functions_are_short() -> None:
    found = [
        f"{path}:{function.lineno} {function.name}: {function_lines(function)} lines"
        for path in files(*PACKAGES, "tests")
        for function in functions(tree(path))
        if function_lines(function) > FUNCTION_LINES
    ]
    assert found == [], "\n".join(found)


def test_classes_store_little() -> None:
    found = [
        f"{path}:{cls.lineno} {cls.name}: {', '.join(sorted(stored(cls)))}"
        for path in files(*PACKAGES)
        for cls in classes(tree(path))
        if not is_record(cls) and len(stored(cls)) > ATTRIBUTES
    ]
    assert found == [], "\n".join(found)


def test_names_say_what_is_inside() -> None:
    assert set(named(files(*PACKAGES, "tests"))) & EMPTY_NAMES == set()


def test_every_module_says_its_job() -> None:
    assert [
        str(p) for p in files(*PACKAGES, "tests") if text(p).strip() and not ast.get_docstring(tree(p))
    ] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class A:\n def f(self):\n  self.x = self.y = 1\n  self.z: int = 2\n  self.x += 1", {"x", "y", "z"}),
        ("class A:\n def f(self):\n  for self.i in ():\n   other.k = 1", {"i"}),
        ("@dataclass\nclass A:\n  a: int\n  b: int = 2", {"a", "b"}),
        ("class A:\n  __slots__ = ('a', 'b')\n  c: int", {"a", "b"}),
    ],
)
def test_the_measure_of_a_class_counts_what_it_stores(source: str, expected: set[str]) -> None:
    assert stored(next(classes(ast.parse(source)))) == expected


def test_the_measure_of_a_function_leaves_its_docstring_out() -> None:
    source = 'def f():\n  """One.\n\n  Three.\n  """\n  a = 1\n  return a'
    assert function_lines(next(functions(ast.parse(source)))) == 3
    assert is_record(next(classes(ast.parse("@dataclass(frozen=True)\nclass A: pass"))))
    assert not is_record(next(classes(ast.parse("@dataclass(slots=True)\nclass A: pass"))))
