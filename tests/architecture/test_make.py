"""`make demo` and `make test` say in plain words what is missing on a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def fake_python(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def make(folder: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run make on a copy of the Makefile, in an empty folder."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={"PATH": path or os.environ["PATH"], "HOME": str(folder / "nowhere")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_an_interpreter_that_is_too_old_is_named_with_its_version(tmp_path: Path, target: str) -> None:
    old = fake_python(
        tmp_path, "old", 'case "$*" in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac; exit 0'
    )
    done = make(tmp_path, target, f"PYTHON={old}")
    assert done.returncode != 0
    assert f"PYTHON={old} is Python 3.9.2; Python 3.11 or newer is needed." in done.stderr


def test_a_missing_venv_module_is_named_with_its_package(tmp_path: Path) -> None:
    bare = fake_python(tmp_path, "bare", 'case "$*" in *ensurepip*) exit 1;; esac; exit 0')
    done = make(tmp_path, "test", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = make(tmp_path, "test", "PYTHON=python9")
    assert done.returncode != 0
    assert "PYTHON=python9 cannot be run." in done.stderr


def test_a_machine_without_python_is_told_how_to_get_one(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("make", "sh", "touch"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    done = make(tmp_path, "demo", path=str(tools))
    assert done.returncode != 0
    assert "There is no Python 3.11 or newer on PATH." in done.stderr
    assert "make demo PYTHON=" in done.stderr


def test_a_newer_interpreter_is_found_behind_an_old_python3(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    fake_python(tools, "python3", "exit 1")
    fake_python(tools, "python3.12", 'case "$*" in *ensurepip*) exit 1;; esac; exit 0')
    done = make(tmp_path, "test", path=f"{tools}:{os.environ['PATH']}")
    assert "python3.12 cannot make virtual environments" in done.stderr


def test_a_failing_installation_says_what_it_needs(tmp_path: Path) -> None:
    # This interpreter "makes" an environment whose pip fails.
    script = """
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
  *"-m pip"*) echo "no network" >&2; exit 1;;
esac
exit 0"""
    done = make(tmp_path, "test", f"PYTHON={fake_python(tmp_path, 'python', script)}")
    assert done.returncode != 0
    assert "no network" in done.stderr
    assert "Installing failed, see above. It needs PyPI" in done.stderr
    assert not (tmp_path / ".venv/.dev").exists()
