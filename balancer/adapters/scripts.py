"""Runs the Lua scripts of `balancer/adapters/lua`, one verb a file.

Each script's head names its purpose, its KEYS and ARGV and what it returns. A first line
`-- uses: claim ack` puts `lua/parts/claim.lua` and `ack.lua`, each one local function, before it.
Scripts are sent by their hash; a server that does not know it (a restart, a failover to a replica)
gets the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol

from redis.exceptions import NoScriptError

#: How the first line of a script that is built of parts begins.
USES: Final = "-- uses:"


class Script(Protocol):
    """A script as its callers see it."""

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any: ...


@cache
def script_text(name: str) -> tuple[str, str]:
    """The text of `lua/<name>.lua` and its SHA-1. Raises `FileNotFoundError` for an unknown name."""
    place = files("balancer.adapters").joinpath("lua")
    text = place.joinpath(f"{name}.lua").read_text(encoding="utf-8")
    if text.startswith(USES):
        parts = text.partition("\n")[0].removeprefix(USES).split()
        text = "".join(
            [*(place.joinpath("parts", f"{part}.lua").read_text(encoding="utf-8") for part in parts), text]
        )
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def load_script(client: Any, name: str) -> Script:
    """The script `name` bound to a redis-py client, by EVALSHA, by EVAL where it is not known yet."""
    text, sha = script_text(name)

    def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return client.evalsha(sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(text, len(keys), *keys, *args)

    return run
