"""How a process that runs a balancer in a thread is told to end, and ends: signals are real, so is DuckDB."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

#: A process with a service, whose balancer does `{body}` within DuckDB; its main thread goes on at `begun`.
PROCESS: Final = """
import os, signal, sys, threading

from balancer.service import BalancerService

begun, over = threading.Event(), threading.Event()

def again(*_):
    raise SystemExit

class Balancer:
    def start_balancing(self):
        import duckdb
        with duckdb.connect(config={{"threads": 4}}) as connection:
            {body}

    def stop(self):
        {stop}

service = BalancerService(Balancer, patience_s={patience})
service.start()
begun.wait()
"""

#: Native code that never ends.
FOR_EVER: Final = (
    "begun.set(); connection.execute('SELECT count(*) FROM range(1000000) a, range(1000000) b "
    "WHERE (a.range + b.range) % 7 = 3')"
)


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_a_process_ends_in_order_while_its_balancer_is_in_native_code() -> None:
    done = ended(PROCESS.format(body=FOR_EVER, stop="pass", patience=0.2))
    assert done.returncode == 1, done
    assert done.stderr == "the balancer is still in a turn after 0.2 s: the process ends without it\n"


def test_a_second_signal_ends_it_without_more_patience() -> None:
    """Sent from `stop`, which is called where the process waits for the turn at its end."""
    program = PROCESS.format(body=FOR_EVER, stop="signal.raise_signal(signal.SIGTERM)", patience=3600)
    done = ended(program + "signal.signal(signal.SIGTERM, again)\n")
    assert done.returncode == 1, done
    assert done.stderr == (
        "the balancer is still in a turn, and the process is told again to end: it ends without it\n")


#: A signal to the process that its main thread does not take yet. It is ended by it (no handler is set) if
#: another thread is there that takes it.
MAIN_IS_LATE: Final = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
print(signal.sigtimedwait([signal.SIGTERM], 30).si_signo)
over.set()
"""


def test_no_thread_of_a_balancer_takes_a_signal_from_the_main_thread() -> None:
    """Python would run the handler late: not before the main thread's sleep is over."""
    body = "connection.execute('SELECT 1'); begun.set(); over.wait()"
    done = ended(PROCESS.format(body=body, stop="pass", patience=10) + MAIN_IS_LATE)
    assert (done.returncode, done.stdout.strip()) == (0, "15"), done
