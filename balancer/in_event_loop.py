"""Lets a program that is an event loop have a balancer in it, as the seed's coordinator has.

The turns block, so they run in a thread; the coroutine stands for it: it ends with it, and ends it when it is
cancelled.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Final

from balancer import unsignalled

#: How long a process that ends without having cancelled the coroutine waits for the turn it is in (s).
PATIENCE_S: Final = 10.0


def runs_here() -> bool:
    """Whether the caller is called by an event loop, which nothing may block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def until_cancelled(balance: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run `balance` in a thread to its end; when this is cancelled, `stop` it and wait for its last turn."""
    ended = asyncio.get_running_loop().create_future()
    thread = Thread(target=_run, args=(balance, ended), name="balancer", daemon=True)

    def leave() -> None:
        stop()
        thread.join(PATIENCE_S)

    # Python cuts a daemon thread off at the end, and native code that it is in does not survive that.
    atexit.register(leave)
    unsignalled.start(thread)
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        stop()
        await ended
        raise
    finally:
        if not thread.is_alive() or ended.done():
            atexit.unregister(leave)


def _run(balance: Callable[[], None], ended: asyncio.Future[None]) -> None:
    fault: BaseException | None = None
    try:
        balance()
    except BaseException as error:
        fault = error

    def settle() -> None:
        if ended.done():
            return  # cancelled a second time: nobody waits any more
        if fault is None:
            ended.set_result(None)
        else:
            ended.set_exception(fault)

    with suppress(RuntimeError):  # the event loop was closed without waiting for us
        ended.get_loop().call_soon_threadsafe(settle)
