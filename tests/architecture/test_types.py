"""What the checkers say: strict types, and the linter's rules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.sources import ROOT


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=290, check=False
    )


@pytest.mark.timeout(300)
def test_types_are_strict() -> None:
    done = run("mypy", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_is_content() -> None:
    done = run("ruff", "check", "--no-cache", "--output-format=concise", ".")
    assert done.returncode == 0, done.stdout + done.stderr
