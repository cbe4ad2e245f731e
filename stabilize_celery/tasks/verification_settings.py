"""What the key `verification` in a stage's context asks for."""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.problems import Suggester
from stabilize_celery.tasks.verification import OutputVerifier, Verifier, VerifierRegistry

__all__ = ["Check", "check_of"]

_TYPES: Mapping[str, type] = {
    "str": str,
    "string": str,
    "int": int,
    "integer": int,
    "float": float,
    "number": numbers.Real,
    "bool": bool,
    "boolean": bool,
    "list": list,
    "array": list,
    "dict": dict,
    "object": dict,
}


@dataclass(frozen=True, slots=True)
class Check:
    """A verifier, how often it is asked again at most (count), and the pause before that (ms)."""

    verifier: Verifier
    max_retries: int
    retry_after_ms: int


def check_of(wanted: Any, known: VerifierRegistry) -> Check:
    """Return what a stage's `verification` means.

    Args:
        wanted: The name of a verifier that the worker knows, or a mapping: `type` "output" (the default) with
            `required_keys` and `type_checks` (output name to str, int, float, number, bool, list or dict); or `type`
            "callable" with `callable`, such a name. `max_retries` and `retry_delay_seconds` override the verifier's.
        known: The worker's verifiers.

    Raises:
        ConfigurationError: it is neither, or names what the worker does not know.

    """
    if isinstance(wanted, str):
        return _check(known.get(wanted), {})
    if not isinstance(wanted, Mapping):
        raise _refusal(f"must be a verifier's name or a mapping, not {wanted!r:.100}")
    kind = wanted.get("type", "callable" if "callable" in wanted else "output")
    if kind == "callable":
        return _check(known.get(str(wanted.get("callable", ""))), wanted)
    if kind != "output":
        raise _refusal(f"type must be output or callable, not {kind!r:.100}")
    types = wanted.get("type_checks") or {}
    keys = wanted.get("required_keys") or []
    if not isinstance(types, Mapping) or not isinstance(keys, list | tuple):
        raise _refusal("needs a list of required_keys, a mapping of type_checks, or both")
    return _check(OutputVerifier(keys, {str(key): _type(name) for key, name in types.items()}), wanted)


def _check(verifier: Verifier, wanted: Mapping[str, Any]) -> Check:
    try:
        retries = int(wanted.get("max_retries", verifier.max_retries))
        pause_ms = int(float(wanted.get("retry_delay_seconds", verifier.retry_delay_seconds)) * 1000)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refusal(f"max_retries and retry_delay_seconds must be numbers: {error}") from None
    return Check(verifier, retries, pause_ms)


def _type(name: object) -> type:
    found = _TYPES.get(str(name))
    if found is None:
        raise _refusal(f"type_checks knows no type {name!r:.100}{Suggester(_TYPES).suggest(str(name))}")
    return found


def _refusal(problem: str) -> ConfigurationError:
    return ConfigurationError(f"verification in the stage's context: {problem}")
