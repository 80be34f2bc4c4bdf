"""A process that looks for strangers, stops its Redis meanwhile, forks, and tells how the fork ended.

`python -m tests.contract.forked_look BROKER URL PID`: PID is the Redis server's.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import billiard
import redis
from celery import Celery

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_keys import Keys
from balancer.strangers import look_when_due
from tests.waiting import wait_until
from workers.transport.schemes import register


def main(broker: str, url: str, pid: int) -> None:
    register()
    client = redis.Redis.from_url(url)
    app = Celery("looks", broker=broker)
    look = (app, Connection.of_client(redis.Redis.from_url(url), Keys()), 5.0)
    threading.Thread(target=look_when_due, args=look, daemon=True).start()
    # Its answers are waited for with a command that blocks.
    wait_until(lambda: any(one["flags"] == "b" for one in client.client_list()), "it waits for answers")
    os.kill(pid, signal.SIGSTOP)
    try:
        child = billiard.Process(target=int)
        child.start()
        child.join(timeout=10)
        print("ended" if child.exitcode == 0 else f"hangs: {child.exitcode}", flush=True)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
