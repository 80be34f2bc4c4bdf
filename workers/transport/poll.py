"""The poller of the balanced transport: it parks nothing, and lets no ack wait beyond its turn."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis


class Poller(kombu_redis.MultiChannelPoller):  # type: ignore[misc]
    """kombu's poller over channels whose commands are pops and waits for the bell."""

    #: The event loop that turns this poller, where there is one.
    loop: Any = None

    def _update_brpop_polling(self) -> None:
        """Nothing is parked for want of credit: an answer says what is held already."""

    def on_readable(self, fileno: int) -> Any:
        channel, kind = self._fd_to_chan.get(fileno, (None, ""))
        if kind == "BRPOP" and channel._in_poll:
            return channel.handlers[kind]()
        return super().on_readable(fileno)

    def on_poll_start(self) -> None:
        super().on_poll_start()
        for channel in self._channels:
            channel.flush_acks()
