"""The documentation site is whole: built strictly, every link in it leads somewhere, every page is in its menu."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does; a warning fails it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_link_of_the_site_leads_to_a_file_of_it(site: Path) -> None:
    """Also those that were made from links to files beside docs/."""
    broken = []
    for page in site.rglob("*.html"):
        for link in re.findall(r'<(?:a|img|link|script)\b[^>]*?(?:href|src)="?([^"\s>]+)', page.read_text()):
            parts = urlsplit(link)
            is_inside = not parts.scheme and not parts.netloc and parts.path and not parts.path.startswith("/")
            if is_inside and not (page.parent / unquote(parts.path)).exists():
                broken.append((page.relative_to(site).as_posix(), link))

    assert broken == []


def test_every_page_of_docs_is_in_the_menu(site: Path) -> None:
    """What the menu lacks nobody finds; decisions are found by the index."""
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}

    assert {page for page in pages if page not in menu and not page.startswith("decisions/")} == set()


def test_the_reference_has_the_names_that_users_import(site: Path) -> None:
    """With their docstrings."""
    text = (site / "api.html").read_text()

    for name in (
        "Stabilize",
        "Client",
        "WorkflowHandle",
        "AsyncClient",
        "TaskResult",
        "StageExecution",
        "run_workflow",
    ):
        assert f">{name}<" in text, name
    assert "Starts workflows and gives handles to them" in text
