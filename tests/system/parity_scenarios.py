"""What a scenario of parity is, and all there are.

A scenario is given the module of tasks as a client sees it. It yields what it waits for (a result or
a predicate) and returns what the client saw.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib import import_module
from typing import Any

Steps = Generator[Any, None, Any]
Scenario = Callable[[Any], Steps]

_SCENARIOS: dict[str, Scenario] = {}
_PREFORK_ONLY: set[str] = set()


def scenario(run: Scenario) -> Scenario:
    """For every pool."""
    assert run.__name__ not in _SCENARIOS
    _SCENARIOS[run.__name__] = run
    return run


def prefork_only(run: Scenario) -> Scenario:
    """For what Celery does on that pool alone, or what is the same on all and need not be tried on each."""
    _PREFORK_ONLY.add(run.__name__)
    return scenario(run)


def scenarios(part: str) -> dict[str, Scenario]:
    """By name: all for "prefork", else those of every pool."""
    for name in ("canvas", "calls"):
        import_module(f"tests.system.parity_{name}")
    return {name: run for name, run in _SCENARIOS.items() if part == "prefork" or name not in _PREFORK_ONLY}


def seen(result: Any) -> Any:
    """What a client sees of a result that has ended."""
    value = result.get(propagate=False, timeout=5)
    return [result.state, repr(value) if isinstance(value, BaseException) else value]
