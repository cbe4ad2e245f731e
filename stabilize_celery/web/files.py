"""The files of the page, from the package: no build step, nothing from other sites."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

__all__ = ["STATIC", "file_routes"]

STATIC = Path(__file__).parent / "static"


def file_routes() -> list[BaseRoute]:
    """Return the routes of the page itself; what has changed since is asked for again by its ETag."""

    async def index(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    return [Route("/", index, methods=["GET"]), Mount("/static", _Files(directory=STATIC))]


class _Files(StaticFiles):
    """Static files that browsers check before they use them again: an upgrade shows at the next load."""

    def file_response(self, *args: object, **more: object) -> Response:
        """Return a file, or that it has not changed."""
        response = super().file_response(*args, **more)  # type: ignore[arg-type]  # handed on as they are
        response.headers["cache-control"] = "no-cache"
        return response
