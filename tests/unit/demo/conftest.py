"""A tiny source tree with the troubles that real ones have."""

from pathlib import Path

import pytest

SHAPES = '''"""Shapes."""


class Shape:
    """A shape."""

    def area(self, scale):
        if scale and self:
            return [x for x in range(scale) if x]
        return 0

    def _hidden(self):
        return 1


async def draw():
    def inner():
        while True:
            assert 1
    return inner
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Packages: bad (two files that do not parse), café, notes (no Python), shapes, solo (a module)."""
    root = tmp_path / "tree"
    files = {
        "shapes/__init__.py": b"",
        "shapes/round/shape.py": SHAPES.encode(),
        "shapes/__pycache__/shape.py": b"nor this one",
        "bad/broken.py": b"def f(:\n",
        "bad/latin.py": b"# caf\xe9\nname = 'caf\xe9'\n",
        "bad/fine.py": b"x = 1\n",
        "café/grün.py": "# -*- coding: utf-8 -*-\ndef grüßen():\n    return 'ß'\n".encode(),
        "notes/readme.txt": b"no Python here",
        "site-packages/other/code.py": b"x = 1\n",
        ".hidden/code.py": b"x = 1\n",
        "env/pyvenv.cfg": b"",
        "env/lib/code.py": b"x = 1\n",
        "solo.py": b"def solo():\n    return '\\d'\n",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
