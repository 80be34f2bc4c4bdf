"""The files in deploy/ name only what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields

from balancer.settings import Settings
from tests.architecture.sources import PACKAGES, ROOT

DEPLOY = ROOT / "deploy"


def texts() -> str:
    """Every file of deploy/ but the documents, one after another."""
    found = (
        path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.suffix not in (".md", ".pyc")
    )
    return "\n".join(path.read_text(encoding="utf-8") for path in found)


def test_the_example_app_is_balanced_in_three_lines() -> None:
    script = (
        "import jobs; jobs.app.finalize(); task = jobs.app.tasks['jobs.blocks'];"
        "print(task(3, side=8), [o.name for o in jobs.app.user_options['worker']])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=DEPLOY,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CELERY_BROKER_URL": "memory://"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    total, _, options = done.stdout.partition(" ")
    assert float(total) > 0
    assert "hardware" in options


def test_the_options_named_are_options_of_the_balancer() -> None:
    named = set(re.findall(r"BALANCER_([A-Z_]+)", texts()))
    assert named
    assert named - {field.name.upper() for field in fields(Settings)} == set()


def test_the_image_copies_what_is_there() -> None:
    copied = [
        source
        for line in (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    listed = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{source}" for source in copied} <= set(listed)


def test_the_images_packages_are_those_of_the_wheel() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert [package for package in PACKAGES if f"COPY {package} {package}" not in dockerfile] == []
