"""Chaos: a fleet is killed, frozen and cut off at random while it works; then all is counted.

    python -m tests.chaos --seeds 1 2 3 --tasks 4000 --kills 20 --transport balanced-redis

The last line is one JSON object over all seeds, see `tests/chaos/verdict.py` for what its numbers
mean. The exit code is 1 when anything was lost that is not the broker's own doing, or ended twice.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
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
    if len(options.seeds) > 1:
        return several(options)
    print((one := run_one(options)).document(), flush=True)
    return 0 if one.clean else 1


def several(options: argparse.Namespace) -> int:
    """Each seed in a process of its own, and the sum of them."""
    whole = Verdict()
    for seed in options.seeds:
        said = ["--tasks", options.tasks, "--kills", options.kills, "--every", options.every]
        said += ["--transport", options.transport, *(["--keep", options.keep] if options.keep else [])]
        command = [sys.executable, "-m", "tests.chaos", "--seeds", seed, *said]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        if not lines:
            print(f"the run of seed {seed} did not come to its end", file=sys.stderr)
            return 2
        print(lines[-1], flush=True)
        whole.add(Verdict.read(lines[-1]))
    print(whole.document(), flush=True)
    return 0 if whole.clean else 1


def run_one(options: argparse.Namespace) -> Verdict:
    seed = options.seeds[0]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        logs = (options.keep or Path(folder)) / f"seed-{seed}"
        # A journal of an earlier run would be read as this one's.
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        return run(
            Options(
                seed=seed,
                tasks=options.tasks,
                kills=options.kills,
                every_s=options.every,
                transport=options.transport,
                logs=logs,
            )
        )


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # clients that are left would look for their server, which is gone
