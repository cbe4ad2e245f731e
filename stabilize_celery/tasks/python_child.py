"""Runs in the interpreter of the `python` task, by `python -c <this text> <folder>`: no import of this package.

The folder has request.json (`script`, `script_file` or `module` and `function`, `inputs`, `args`); the value of
RESULT, if one was set, is written there as result.json. The interpreter may be any Python from 3.9 on.
"""

import importlib
import json
import linecache
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

__all__ = ["main"]

_THIS_FILE = "<string>"
"""What `python -c` calls the text it runs."""


def main(folder: Path) -> None:
    """Run the request in `folder` and write its result there."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    try:
        names = _run(request)
    except Exception as error:  # noqa: BLE001 -- shown as the interpreter would, without this file's own frames
        traceback.print_exception(type(error), error, _below_this_file(error.__traceback__))
        sys.exit(1)
    if "RESULT" not in names:
        return
    try:
        text = json.dumps(names["RESULT"])
    except (TypeError, ValueError) as error:
        sys.exit(f"RESULT can't be written as JSON: {error}")
    (folder / "result.json").write_text(text, encoding="utf-8")


def _run(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("module"):
        function = getattr(importlib.import_module(request["module"]), request["function"])
        return {"RESULT": function(request["inputs"])}
    if request.get("script_file"):
        path: str = request["script_file"]
        sys.path[0] = str(Path(path).resolve().parent)
        source = Path(path).read_text(encoding="utf-8")
    else:
        path, source = "<script>", str(request["script"])
        # So that a traceback shows the lines of the script.
        linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    sys.argv = [path, *request["args"]]
    names = {"__name__": "__main__", "__file__": path, "INPUT": request["inputs"]}
    exec(compile(source, path, "exec"), names)  # noqa: S102 -- the point of the task
    return names


def _below_this_file(trace: Optional[TracebackType]) -> Optional[TracebackType]:  # noqa: UP045 -- Python 3.9 too
    while trace is not None and trace.tb_frame.f_code.co_filename == _THIS_FILE:
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    main(Path(sys.argv[1]))
