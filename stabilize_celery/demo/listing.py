"""What there is to audit: the packages of a source tree, found without importing anything."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

__all__ = [
    "Package",
    "fingerprint",
    "list_packages",
    "package_path",
    "require_packages",
    "shortened",
    "shown",
    "source_files",
]

SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


class Package(msgspec.Struct, frozen=True):
    """One top-level folder or module of a source tree.

    Attributes:
        name: Unique in its tree; a module keeps its `.py` only where a folder has the same name.
        files: Python files in it (count).
        size: What they hold together (bytes).
        newest_ns: When the last one was written (nanoseconds since the epoch).

    """

    name: str
    files: int
    size: int
    newest_ns: int


def shown(path: str | Path) -> str:
    """Return a path as valid text, whatever bytes the file system allowed in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def shortened(text: str, limit: int) -> str:
    """Return the text, or where it is longer than `limit` characters its head and a digest that keeps it unique."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 13]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def list_packages(root: Path) -> list[Package]:
    """Return every package of the tree that holds Python files, by name.

    Raises:
        NotADirectoryError: `root` is no folder.

    """
    if not root.is_dir():
        message = f"{shown(root)} is not a folder; give the folder whose packages are to be audited"
        raise NotADirectoryError(message)
    found = (_measured(name, path) for name, path in sorted(_entries(root).items()))
    return [package for package in found if package.files]


def require_packages(root: Path) -> list[Package]:
    """Return every package of the tree, by name.

    Raises:
        NotADirectoryError: `root` is no folder.
        ValueError: there is no Python file in it.

    """
    packages = list_packages(root)
    if not packages:
        message = f"{shown(root)} has no Python files; give the folder whose packages are to be audited"
        raise ValueError(message)
    return packages


def package_path(root: Path, name: str) -> Path:
    """Return where the package of that name lies.

    Raises:
        LookupError: The tree has no such package (any more).

    """
    try:
        return _entries(root)[name]
    except KeyError:
        message = f"package {name!r} is not in {shown(root)} any more; run the audit again to list it afresh"
        raise LookupError(message) from None


def source_files(path: Path) -> Iterator[Path]:
    """Yield the Python files of a package in a stable order; links to folders are not followed."""
    if not path.is_dir():
        yield path
        return
    closed: list[OSError] = []
    for folder, subfolders, names in os.walk(path, onerror=closed.append):
        subfolders[:] = sorted(name for name in subfolders if _is_source_folder(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))
    # A folder that may not be looked into stands for the files in it, so that the audit reports it.
    yield from (Path(error.filename) for error in closed)


def fingerprint(packages: Iterable[Package]) -> str:
    """Return a digest that changes when a file is added, removed, grown or written to."""
    return hashlib.sha256(msgspec.json.encode(list(packages))).hexdigest()


def _entries(root: Path) -> dict[str, Path]:
    children = list(root.iterdir())
    folders = {shown(child.name): child for child in children if child.is_dir() and _is_source_folder(child)}
    modules = {shown(child.stem): child for child in children if child.suffix == ".py" and not child.is_dir()}
    twins = {shown(path.name) if name in folders else name: path for name, path in modules.items()}
    return folders | twins


def _is_source_folder(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in SKIPPED_FOLDERS
    return not hidden and not path.is_symlink() and not (path / "pyvenv.cfg").exists()


def _measured(name: str, path: Path) -> Package:
    facts = [_size_and_time(file) for file in source_files(path)]
    return Package(name, len(facts), sum(size for size, _ in facts), max((time for _, time in facts), default=0))


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        facts = file.stat()
    except OSError:
        # A broken link or a file just deleted: the audit lists it among the files that it could not read.
        return 0, 0
    return facts.st_size, facts.st_mtime_ns
