"""The operator's file: what it sets is accepted, and what it shows commented out would be."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from balancer import settings

FILE = Path(__file__).parents[2] / "celeryconfig.py"


def test_what_it_sets_is_accepted() -> None:
    values = runpy.run_path(str(FILE))
    read = settings.from_sources({k: v for k, v in values.items() if not k.startswith("__")}, {}, {})
    assert read.visibility_timeout == 60
    assert values["result_backend"] == values["broker_url"]


def test_what_it_shows_commented_out_exists_and_is_the_default_where_it_is_a_number(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (?=[a-z_]+ = |    |\}$)", "", FILE.read_text())
    opened = tmp_path / "opened.py"
    opened.write_text(text)
    values: dict[str, Any] = {
        name: value for name, value in runpy.run_path(str(opened)).items() if name.startswith("balancer_")
    }
    assert len(values) > 18
    read, default = settings.from_sources(values, {}, {}), settings.Settings()
    changed = {"balancer_visibility_timeout", "balancer_dry_run", "balancer_tasks", "balancer_hints",
               "balancer_group_weights"}
    for name in values.keys() - changed:
        field = name.removeprefix("balancer_")
        assert getattr(read, field) == getattr(default, field), name
