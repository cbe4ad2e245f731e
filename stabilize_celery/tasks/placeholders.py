"""`{key}` placeholders in the texts of ready-made tasks: filled from the stage's context, never read as code.

A placeholder is an identifier in braces that the context has; everything else in braces stays as it is, so
`${HOME}`, `awk '{print $1}'` and JSON need no escaping. A backslash before the brace keeps it as it is, too.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["fill", "fill_shell", "mask", "value_text"]

_PLACEHOLDER = re.compile(r"(?<![$\\])\{([A-Za-z_][A-Za-z0-9_]*)\}")
_VARIABLE = "STABILIZE_VALUE_"


def value_text(value: Any) -> str:
    """Return how a context value reads in a text: a text as it is, None as nothing, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def fill(template: str, context: Mapping[str, Any], render: Callable[[str, int], str]) -> str:
    """Return `template` with each placeholder replaced by `render(value as text, position in the template)`."""

    def one(match: re.Match[str]) -> str:
        key = match.group(1)
        return render(value_text(context[key]), match.start()) if key in context else match.group()

    return _PLACEHOLDER.sub(one, template)


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """Return `text` with every secret value replaced by `***`."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def fill_shell(template: str, context: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return a POSIX shell command and the environment variables that carry its values.

    Quoting a value into the command text is unsafe wherever the template has quotes of its own (`echo '{x}'` would
    let x close them). A variable's value is never parsed by the shell, and isn't shown by `ps`. Each placeholder is
    one word, also inside quotes. Not for here-documents and `$(( ))`, where the quotes around it would be in the way.
    """
    variables: dict[str, str] = {}
    pieces: list[str] = []
    quoting = _Quoting()
    position = 0
    for match in _PLACEHOLDER.finditer(template):
        key = match.group(1)
        if key not in context:
            continue
        text = template[position : match.start()]
        quoting.read(text)
        pieces += [text, quoting.wrap("${" + _VARIABLE + key + "}")]
        variables[_VARIABLE + key] = value_text(context[key])
        position = match.end()
    return "".join([*pieces, template[position:]]), variables


class _Quoting:
    """Follows a shell command's quotes: the innermost of '' "" $( ) ( ) ` ` at the end of what was read."""

    _SINGLE, _DOUBLE, _PAREN, _TICK, _COMMENT = "'", '"', "(", "`", "#"

    def __init__(self) -> None:
        self._open: list[str] = []
        self._escaped = False
        self._before = "\n"

    def read(self, text: str) -> None:
        for character in text:
            self._read_one(character)
            self._before = character

    def wrap(self, expansion: str) -> str:
        """Return `expansion` so that it is one word where reading stopped."""
        self._before = "}"
        inside = self._open[-1] if self._open else ""
        if inside == self._SINGLE:
            return f"'\"{expansion}\"'"
        return expansion if inside == self._DOUBLE else f'"{expansion}"'

    def _read_one(self, character: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside in (self._SINGLE, self._COMMENT):
            if character == ("\n" if inside == self._COMMENT else self._SINGLE):
                self._open.pop()
        elif self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif inside == self._DOUBLE:
            self._read_in_double_quotes(character)
        else:
            self._read_plain(character, inside)

    def _read_in_double_quotes(self, character: str) -> None:
        if character == self._DOUBLE:
            self._open.pop()
        elif character == "`" or (character == "(" and self._before == "$"):
            self._open.append(character)

    def _read_plain(self, character: str, inside: str) -> None:
        if (character == ")" and inside == self._PAREN) or (character == "`" and inside == self._TICK):
            self._open.pop()
        elif character in "'\"(`" or (character == "#" and self._before.isspace()):
            self._open.append(character)
