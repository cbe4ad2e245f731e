"""Verifiers by name for a whole process: what every registry finds where it has none of that name itself."""

from collections.abc import Callable
from typing import TypeVar

from stabilize_celery.tasks.verification import SHARED, Verifier, VerifierFunction

__all__ = ["get_verifier", "register_verifier", "verifier"]

_Check = TypeVar("_Check", bound=VerifierFunction)


def register_verifier(name: str, verifier: Verifier | VerifierFunction) -> None:
    """Make a verifier known to all registries of this process: stages name it in `context["verification"]`."""
    SHARED.register(name, verifier)


def get_verifier(name: str) -> Verifier:
    """Return a verifier of this process.

    Raises:
        ConfigurationError: there is none of that name.

    """
    return SHARED.get(name)


def verifier(name: str) -> Callable[[_Check], _Check]:
    """Return a decorator that registers a function as a verifier."""

    def register(function: _Check) -> _Check:
        register_verifier(name, function)
        return function

    return register
