"""The example app of `compose.yaml`: any Celery app becomes a balanced one in three lines.

Replace it by your own project; broker and result backend come from the environment
(CELERY_BROKER_URL, CELERY_RESULT_BACKEND).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from celery import Celery

from workers import BalancedTask, install

app = Celery("jobs")
app.conf.task_acks_late = True
install(app)


@app.task(base=BalancedTask, bind=True, hardware=("cpu",), checkpoints=True, checkpoint_serializer="json")
def blocks(self: Any, count: int, side: int = 400) -> float:
    """Multiply `count` pairs of matrices and add up their traces; goes on from its last checkpoint."""
    state = self.resume({"done": 0, "total": 0.0})
    for done in range(int(state["done"]), count):
        random = np.random.default_rng(done)
        left, right = random.random((side, side)), random.random((side, side))
        state = {"done": done + 1, "total": float(state["total"]) + float(np.trace(left @ right))}
        self.checkpoint(state, share=state["done"] / count)
    return float(state["total"])
