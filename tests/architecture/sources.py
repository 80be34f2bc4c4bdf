"""The project's own source files, parsed once, for the tests that read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

#: The root of the project.
ROOT = Path(__file__).parents[2]

#: The packages that are installed.
PACKAGES = ("balancer", "workers", "probes")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def files(*folders: str) -> tuple[Path, ...]:
    """Python files below these folders of the project, relative to its root."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts))


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), filename=str(path))


def functions(node: ast.AST) -> Iterator[Function]:
    """Every function and method below a node, nested ones too."""
    return (found for found in ast.walk(node) if isinstance(found, Function))


def classes(node: ast.AST) -> Iterator[ast.ClassDef]:
    return (found for found in ast.walk(node) if isinstance(found, ast.ClassDef))


def dotted(node: ast.AST) -> str:
    """`a.b.c` for such an expression; empty for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else node.attr
    return ""


def calls(node: ast.AST) -> Iterator[str]:
    """The dotted names of everything called below a node."""
    return (dotted(found.func) for found in ast.walk(node) if isinstance(found, ast.Call))
