"""A hook of MkDocs: files beside docs/ that pages link to become pages, so that the site has no link out of itself."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?!\w+://|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
KINDS = {".yml": "yaml", ".yaml": "yaml", ".py": "python", ".json": "json", ".conf": "ini", ".service": "ini"}
SHORT = 200_000


def place_of(target: Path) -> str | None:
    """The page of a file or folder of the repository, relative to docs/; None: it has its own there."""
    name = target.relative_to(ROOT).as_posix()
    if target.is_dir():
        return f"source/{name}/index.md"
    if name.startswith("docs/"):
        return None
    return f"source/{name}" if target.suffix == ".md" else f"source/{name}.md"


def links_of(text: str) -> list[str]:
    return [found[1] for found in LINK.finditer(FENCE.sub("", text)) if found[1]]


def target_of(page: Path, link: str) -> Path | None:
    target = (page.parent / link).resolve()
    return target if target.exists() and target.is_relative_to(ROOT) and target != ROOT else None


def content_of(target: Path) -> str:
    name = target.relative_to(ROOT).as_posix()
    if target.is_dir():
        return f"# {name}/\n\n" + "\n".join(f"- [{one}]({one})" for one in _names(target))
    text = target.read_text()
    if target.suffix == ".md":
        return text
    shown = text if len(text) < SHORT else "(too long to be shown)"
    return f"# {name}\n\n````{KINDS.get(target.suffix, 'text')}\n{shown}\n````\n"


def _names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.is_file() and not one.name.startswith((".", "__")))


class Sources:
    """Which page stands for which file."""

    def __init__(self) -> None:
        self.origin: dict[str, Path] = {}

    def collect(self, pages: list[Path]) -> None:
        while pages:
            page = pages.pop()
            links = links_of(page.read_text()) if page.is_file() else _names(page)
            base = page if page.is_file() else page / "index.md"
            for link in links:
                target = target_of(base, link)
                place = place_of(target) if target else None
                if target is not None and place is not None and place not in self.origin and target.suffix != ".png":
                    self.origin[place] = target
                    if target.suffix == ".md" or target.is_dir():
                        pages.append(target)

    def rewritten(self, place: str, text: str) -> str:
        origin = self.origin.get(place, ROOT / "docs" / place)
        base = origin / "index.md" if origin.is_dir() else origin

        def moved(found: re.Match[str]) -> str:
            target = target_of(base, found[1]) if found[1] else None
            if target is None:
                return found[0]
            to = place_of(target)
            if to is None or to not in self.origin:
                to = target.relative_to(ROOT / "docs").as_posix() if target.is_relative_to(ROOT / "docs") else None
            if to is None:
                return found[0]
            return f"]({posixpath.relpath(to, posixpath.dirname(place) or '.')}{found[2] or ''})"

        parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
        return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


SOURCES = Sources()


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file that is linked to."""
    SOURCES.collect([ROOT / "docs" / file.src_uri for file in files.documentation_pages()])
    for place, target in SOURCES.origin.items():
        files.append(File.generated(config, place, content=content_of(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to the pages that were added."""
    return SOURCES.rewritten(page.file.src_uri, markdown)
