"""JSON that somebody gives on the command line or in a file of lines: read, or refused in words."""

import json
import sys
from typing import Any

from stabilize_celery.cli.failures import Mistake

__all__ = ["JsonMistake", "json_of"]


class JsonMistake(Mistake):
    """It is not JSON (`is_json` False), or it is more than can be read."""

    def __init__(self, told: str, *, is_json: bool) -> None:
        super().__init__(told)
        self.is_json = is_json


def json_of(text: str, what: str = "this") -> Any:
    """Return the value that `text` stands for; `what` it is begins the sentence where it can't be read.

    Raises:
        JsonMistake: it is not JSON, it is nested too deeply, or a number in it has more digits than Python reads.

    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise JsonMistake(f"{what} is not JSON: {error.msg} ({where})", is_json=False) from None
    except RecursionError:
        raise JsonMistake(f"{what} is nested too deeply", is_json=True) from None
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise JsonMistake(f"{what} has a number of more than {most:,} digits", is_json=True) from None
