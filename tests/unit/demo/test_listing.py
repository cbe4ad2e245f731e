"""What counts as a package of a source tree."""

import os
import sys
from pathlib import Path

import pytest

from stabilize_celery.demo.listing import (
    fingerprint,
    list_packages,
    package_path,
    require_packages,
    shortened,
    shown,
    source_files,
)


def test_folders_and_modules_with_python_files_are_packages(tree: Path) -> None:
    """Hidden folders, caches, installed packages and virtual environments are none."""
    found = {package.name: package.files for package in list_packages(tree)}

    assert found == {"bad": 3, "café": 1, "shapes": 2, "solo": 1}


def test_a_module_beside_a_folder_of_its_name_keeps_its_suffix(tree: Path) -> None:
    """Every name is used once, and leads back to its own path."""
    (tree / "shapes.py").write_text("x = 1\n")

    names = [package.name for package in list_packages(tree)]

    assert names.count("shapes") == 1
    assert package_path(tree, "shapes.py") == tree / "shapes.py"
    assert package_path(tree, "shapes") == tree / "shapes"


def test_a_link_to_a_folder_is_not_followed(tree: Path) -> None:
    """A link to a folder above would never end."""
    (tree / "shapes" / "again").symlink_to(tree, target_is_directory=True)

    assert len(list(source_files(tree / "shapes"))) == 2


def test_the_fingerprint_tells_whether_a_file_changed(tree: Path) -> None:
    """Two looks agree until something in the tree is written to."""
    before = fingerprint(list_packages(tree))
    again = fingerprint(list_packages(tree))
    (tree / "solo.py").write_text("x = 12345\n")

    assert before == again
    assert before != fingerprint(list_packages(tree))


def test_a_tree_to_audit_holds_python(tree: Path, tmp_path: Path) -> None:
    """Who wants packages and finds none is told which folder, and what to give."""
    (tmp_path / "empty").mkdir()

    assert require_packages(tree) == list_packages(tree)
    with pytest.raises(ValueError, match="empty has no Python files; give the folder"):
        require_packages(tmp_path / "empty")
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder; give"):
        require_packages(tmp_path / "nowhere")


def test_a_missing_folder_and_a_missing_package_are_told_by_name(tree: Path) -> None:
    """The error says which, and what to do."""
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder; give"):
        list_packages(tree / "nowhere")
    with pytest.raises(LookupError, match=r"'gone' is not in .* run the audit again"):
        package_path(tree, "gone")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses file names that are no UTF-8")
def test_a_name_that_is_no_text_is_shown_escaped_and_found_again(tmp_path: Path) -> None:
    """The file system allows any bytes; JSON and HTML do not."""
    (tmp_path / os.fsdecode(b"od\xffd.py")).write_text("x = 1\n")

    [package] = list_packages(tmp_path)

    assert package.name == "od\\xffd"
    assert shown(package_path(tmp_path, package.name)).endswith("od\\xffd.py")


def test_long_names_are_cut_and_stay_apart() -> None:
    """Two long names that begin alike do not become one."""
    one, other = shortened("a" * 300, 60), shortened("a" * 301, 60)

    assert len(one) == len(other) == 60
    assert one != other
    assert shortened("short", 60) == "short"
