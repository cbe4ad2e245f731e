"""Reading a stage's context as the typed settings of a ready-made task."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, overload

from stabilize_celery.errors import ContextError
from stabilize_celery.models.limits import MAX_TIME_MS
from stabilize_celery.models.stage import StageExecution

__all__ = ["InputReader"]


class InputReader:
    """Reads one value at a time; a wrong one is a `ContextError` that names stage, task, key, and what it may be."""

    def __init__(self, stage: StageExecution, task: str) -> None:
        self.context: Mapping[str, Any] = stage.context
        self._where = f"stage {stage.ref_id!r}: {task} task"

    def wrong(self, key: str, expected: str) -> ContextError:
        """Return the error for a `key` whose value is not what is `expected`."""
        found = f"not {self.context[key]!r}"[:200] if key in self.context else "it is missing"
        return ContextError(f"{self._where}: `{key}` must be {expected}; {found}", key)

    def refusal(self, problem: str, key: str | None = None) -> ContextError:
        """Return the error for a `problem` with several values, or with what one of them names."""
        return ContextError(f"{self._where}: {problem}", key)

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return a text, or `default` where there is none."""
        value = self.context.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def required_text(self, key: str) -> str:
        """Return a text that must be there and not empty."""
        value = self.text(key)
        if not value:
            raise self.wrong(key, "a text that is not empty")
        return value

    @overload
    def number(self, key: str, default: float, *, above_zero: bool = False) -> float: ...

    @overload
    def number(self, key: str, default: None = None, *, above_zero: bool = False) -> float | None: ...

    def number(self, key: str, default: float | None = None, *, above_zero: bool = False) -> float | None:
        """Return a number of 0 or more (above 0 on request); digits in a text count as a number."""
        value = self.context.get(key)
        if value is None:
            return default
        expected = "a number above 0" if above_zero else "a number of 0 or more"
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self.wrong(key, expected)
        try:
            number = float(value)
        except ValueError:
            raise self.wrong(key, expected) from None
        if not (0 <= number < float("inf")) or (above_zero and number == 0):
            raise self.wrong(key, expected)
        return number

    def seconds_as_ms(self, key: str) -> int | None:
        """Return a number of seconds of 0 or more in ms; None where there is none."""
        seconds = self.number(key)
        if seconds is None:
            return None
        if seconds * 1000 > MAX_TIME_MS:
            raise self.wrong(key, f"a number of seconds of at most {MAX_TIME_MS // 1000}")
        return round(seconds * 1000)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return a yes or no."""
        value = self.context.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty where there is none."""
        value = self.context.get(key) or ()
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
            raise self.wrong(key, "a list of texts")
        return tuple(value)

    def numbers(self, key: str) -> frozenset[int] | None:
        """Return a whole number or a list of them as a set; None where there is none."""
        value = self.context.get(key)
        if value is None:
            return None
        found = [value] if isinstance(value, int) else value
        if (
            isinstance(found, str)
            or not isinstance(found, Sequence)
            or not all(isinstance(one, int) and not isinstance(one, bool) for one in found)
        ):
            raise self.wrong(key, "a whole number, or a list of them")
        return frozenset(found)

    def mapping(self, key: str) -> dict[str, Any]:
        """Return names with values; empty where there is none."""
        value = self.context.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise self.wrong(key, "names with values")
        return dict(value)

    def text_mapping(self, key: str) -> dict[str, str]:
        """Return names with texts; numbers and the like become their JSON text."""
        return {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in self.mapping(key).items()
        }

    def secret_values(self) -> tuple[str, ...]:
        """Return the values of the context keys listed in `secrets`, longest first."""
        values = (self.context.get(key) for key in self.texts("secrets"))
        return tuple(sorted({str(value) for value in values if value not in (None, "")}, key=len, reverse=True))
