"""JSON that somebody gives on the command line or in a file of lines: read, or refused in words."""

import json
import sys
from typing import Any

from stabilize_celery.cli.failures import Mistake

__all__ = ["JsonMistake", "TwiceError", "json_of", "json_once"]


class JsonMistake(Mistake):
    """It is not JSON (`is_json` False), or it is more than can be read."""

    def __init__(self, told: str, *, is_json: bool) -> None:
        super().__init__(told)
        self.is_json = is_json


class TwiceError(Exception):
    """A key stands twice in one object."""


def json_of(text: str, what: str = "this") -> Any:
    """Return the value that `text` stands for; `what` it is begins the sentence where it can't be read.

    Raises:
        JsonMistake: it is not JSON, it is nested too deeply, a key stands twice in one object, or a number in it has
            more digits than Python reads.

    """
    try:
        return json_once(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise JsonMistake(f"{what} is not JSON: {error.msg} ({where})", is_json=False) from None
    except TwiceError as twice:
        told = f"{what} has the key {str(twice)!r} twice in one object, and only one of its values could count"
        raise JsonMistake(told, is_json=True) from None
    except RecursionError:
        raise JsonMistake(f"{what} is nested too deeply", is_json=True) from None
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise JsonMistake(f"{what} has a number of more than {most:,} digits", is_json=True) from None


def json_once(text: str) -> Any:
    """Return what JSON holds.

    Raises:
        JSONDecodeError: it is none.
        TwiceError: names a key that stands twice in one object, of which one value would be lost.

    """
    return json.loads(text, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise TwiceError(next(name for name in names if names.count(name) > 1))
    return found
