"""Stand-ins under the names of `stabilize`: a program written for it runs here with changed imports.

They are thin: `RedisWorkflowStore` and `Orchestrator` are a `Client`, `CeleryQueue` publishes to the broker that your
Celery workers serve, and `QueueProcessor` is a worker inside this process, for tests and small programs.
See docs/migrating.md for what changes and what does not.
"""

from stabilize_celery.compat.former_paths import provide_former_paths
from stabilize_celery.compat.gone import refuse
from stabilize_celery.compat.offered import errors as _errors
from stabilize_celery.compat.offered import events as _events
from stabilize_celery.compat.offered import models as _models
from stabilize_celery.compat.offered import observing as _observing
from stabilize_celery.compat.offered import running as _running
from stabilize_celery.compat.offered import tasks as _tasks
from stabilize_celery.compat.offered.errors import *  # noqa: F403 -- it has an __all__
from stabilize_celery.compat.offered.events import *  # noqa: F403 -- it has an __all__
from stabilize_celery.compat.offered.models import *  # noqa: F403 -- it has an __all__
from stabilize_celery.compat.offered.observing import *  # noqa: F403 -- it has an __all__
from stabilize_celery.compat.offered.running import *  # noqa: F403 -- it has an __all__
from stabilize_celery.compat.offered.tasks import *  # noqa: F403 -- it has an __all__
from stabilize_celery.models.snapshot import freeze as _freeze_dict  # noqa: F401 -- suites of tests take it from there

__all__ = []
__all__ += _errors.__all__
__all__ += _events.__all__
__all__ += _models.__all__
__all__ += _observing.__all__
__all__ += _running.__all__
__all__ += _tasks.__all__

provide_former_paths(__name__)


def __getattr__(name: str) -> object:
    """Say what serves in place of a name of upstream that is not here. Raises ImportError, AttributeError."""
    refuse(name, "", __name__)
