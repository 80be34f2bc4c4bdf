"""What is installed: three packages with their data, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT

#: Endings of files that a package reads at run time.
DATA = {".lua", ".sql", ".csv"}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_has_three_packages_and_nothing_else(contents: list[str]) -> None:
    top = {name.partition("/")[0] for name in contents}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    assert len(top) == len(PACKAGES) + 1


def test_the_operators_settings_stay_out(contents: list[str]) -> None:
    # Celery's default loader would take it for the settings of a stranger's app.
    assert [name for name in contents if Path(name).name == "celeryconfig.py"] == []


def test_every_module_and_every_data_file_is_in(contents: list[str]) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in DATA | {".py"} and "__pycache__" not in path.parts
    }
    assert wanted - set(contents) == set()
    assert {Path(name).suffix for name in wanted} >= {".lua", ".sql", ".csv"}


def test_the_licence_and_the_entry_points_are_in(contents: list[str]) -> None:
    names = {name.partition(".dist-info/")[2] for name in contents if ".dist-info/" in name}
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= names
