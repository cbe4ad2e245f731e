"""Durable workflows for teams that already run Celery and Redis.

Names are loaded when they are first used: importing the model does not import Celery or Redis. Which there are, and
from where, stands in `__init__.pyi` alone (https://scientific-python.org/specs/spec-0001/).
"""

from importlib import metadata

import lazy_loader

_load, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return metadata.version("stabilize-celery")
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
