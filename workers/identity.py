"""Which worker this process belongs to: told by the main process, inherited by its pool.

Environment variables reach pool processes whether they are forked or spawned.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import psutil

INSTANCE: Final = "BALANCER_WORKER_INSTANCE"
NAME: Final = "BALANCER_WORKER_NAME"
HARDWARE_CLASS: Final = "BALANCER_HARDWARE_CLASS"
HARDWARE_LABELS: Final = "BALANCER_HARDWARE_LABELS"


def new_instance() -> str:
    """host:pid:start of this process; unique to one start of it on one host."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def announce(*, instance: str, name: str, hardware_class: str, labels: str) -> None:
    """Tell this process and those it starts from now on which worker they are."""
    os.environ.update(
        {INSTANCE: instance, NAME: name, HARDWARE_CLASS: hardware_class, HARDWARE_LABELS: labels}
    )


def instance() -> str:
    """The instance of the worker this process belongs to; of this process alone when it has none."""
    return os.environ.get(INSTANCE) or new_instance()


def in_main_process() -> bool:
    """Whether this is the worker's main process, which runs bodies itself (threads, gevent, solo)."""
    return instance().split(":")[-2] == str(os.getpid())


def worker_name(default: str = "") -> str:
    return os.environ.get(NAME, default)


def hardware_class() -> str:
    return os.environ.get(HARDWARE_CLASS, "cpu")
