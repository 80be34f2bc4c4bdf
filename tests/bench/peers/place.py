"""Where a process of the bench stands: told by its environment, read by the Celery app in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`system` by name, its Redis, the bench's folder; of a worker, the machine that it emulates. `hints` are
    ours' (JSON)."""

    system: str
    url: str
    folder: Path
    machine: str = ""
    hardware_class: str = ""
    hints: str = "{}"

    def environment(self) -> dict[str, str]:
        return {"PEERS_SYSTEM": self.system, "PEERS_URL": self.url, "PEERS_FOLDER": str(self.folder),
                "PEERS_MACHINE": self.machine, "PEERS_CLASS": self.hardware_class,
                "BALANCER_HINTS": self.hints}


def here(environment: Mapping[str, str] = os.environ) -> Place:
    """What `environment` wrote."""
    told = {name: environment.get(f"PEERS_{name}", "") for name in
            ("SYSTEM", "URL", "FOLDER", "MACHINE", "CLASS")}
    return Place(system=told["SYSTEM"] or "shared", url=told["URL"] or "redis://",
                 folder=Path(told["FOLDER"]), machine=told["MACHINE"], hardware_class=told["CLASS"])
