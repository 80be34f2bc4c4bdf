"""What runs inside a Celery worker and in clients that publish to a balanced fleet.

    from workers import BalancedTask, install
    install(app)

Last room of the house: it may import everything, nothing imports it.
"""

from workers.install import install
from workers.task import BalancedTask
from workers.transport.schemes import register

register()

__all__ = ["BalancedTask", "install"]
