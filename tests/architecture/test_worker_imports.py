"""A worker's processes pay for every module: the balancer's own parts stay out of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What only a balancer, a report or a demo needs.
HEAVY = ("numpy", "duckdb", "altair", "rich.console", "flower")


def test_a_worker_imports_nothing_that_only_a_balancer_needs() -> None:
    modules = [
        f"workers.{path.stem}"
        for path in sorted((ROOT / "workers").glob("*.py"))
        if path.stem not in ("__init__", "demo_app")
    ]
    program = (
        "import sys, importlib; before = set(sys.modules); "
        f"[importlib.import_module(m) for m in {modules!r}]; "
        f"print([h for h in {HEAVY!r} if h in set(sys.modules) - before])"
    )
    told = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True)
    assert told.strip() == "[]"
