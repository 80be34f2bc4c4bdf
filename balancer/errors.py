"""The exceptions of the package: one root, one class a kind of broken boundary.

A refused move or a message set aside is not an exception: it is a record in the decision
log (`balancer.model.decision.Rejected`, `balancer.model.fleet.SetAside`).
"""

from __future__ import annotations


class BalancerError(Exception):
    """Anything this package raises on purpose."""


class SettingError(BalancerError):
    """An option is unknown, of the wrong type or out of its range."""


class TransportError(BalancerError):
    """The balanced transport does not know the kombu that is installed; the message says what to use."""


class HardwareError(BalancerError):
    """A hardware name or label that does not parse."""


class StoreError(BalancerError):
    """Redis answered with something that cannot be used."""


class LedgerError(BalancerError):
    """The DuckDB file cannot be read or written."""


class CheckpointError(BalancerError):
    """The state of a task cannot be saved or read back."""


class ProcessLostError(BalancerError):
    """A task lost the process it ran in too often; it is not tried again."""


class MissingExtraError(BalancerError):
    """An optional dependency is not installed; the message names the extra."""


class NoRedisError(BalancerError):
    """There is no Redis, and none can be started here."""
