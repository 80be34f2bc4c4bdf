"""What a plain `pip install celery-balancer` brings is enough to talk to Redis."""

from __future__ import annotations

import tomllib
from importlib import metadata

from packaging.requirements import Requirement

from tests.architecture.sources import ROOT


def test_all_that_kombu_needs_for_redis_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {Requirement(text).name.lower() for text in project["dependencies"]}
    theirs = [Requirement(text) for text in metadata.requires("kombu") or ()]
    needed = {
        one.name.lower() for one in theirs
        if one.marker is not None and one.marker.evaluate({"extra": "redis"})
        and not one.marker.evaluate({"extra": ""})
    }
    assert {"redis", "packaging"} <= needed
    assert needed - ours == set()
