"""Chaos: a fleet is killed, frozen and cut off at random while it works; then all is counted.

    python -m tests.chaos --seeds 1 2 3 --tasks 4000 --kills 20 --transport balanced-redis

The last line is one JSON object over all seeds, see `tests/chaos/verdict.py` for what its numbers
mean. The exit code is 1 when anything was lost that is not the broker's own doing, or ended twice.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Options, run
from tests.chaos.verdict import Verdict


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--tasks", type=int, default=4000, help="tasks a seed")
    parser.add_argument("--kills", type=int, default=20, help="processes killed a seed")
    parser.add_argument("--every", type=float, default=2.5, help="seconds between disturbances")
    parser.add_argument("--transport", default="balanced-redis", help="balanced-redis or redis")
    parser.add_argument("--keep", type=Path, default=None, help="keep logs and the journal here")
    options = parser.parse_args()
    whole = Verdict()
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            logs = (options.keep or Path(folder)) / f"seed-{seed}"
            # A journal of an earlier run would be read as this one's.
            shutil.rmtree(logs, ignore_errors=True)
            logs.mkdir(parents=True)
            one = run(
                Options(
                    seed=seed,
                    tasks=options.tasks,
                    kills=options.kills,
                    every_s=options.every,
                    transport=options.transport,
                    logs=logs,
                )
            )
        if len(options.seeds) > 1:
            print(one.document(), flush=True)
        whole.add(one)
    print(whole.document(), flush=True)
    return 0 if whole.clean else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # clients that are left would look for their server, which is gone
