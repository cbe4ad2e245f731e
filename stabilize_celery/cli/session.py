"""What every command has: the shared options, where to print, and a client made from them when it is asked for."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from stabilize_celery.cli.embedded import EmbeddedServer, default_home
from stabilize_celery.cli.failures import Mistake, NoServerError
from stabilize_celery.cli.plain import PlainConsole, json_text
from stabilize_celery.client import Client
from stabilize_celery.settings import Settings

__all__ = ["Session", "Shared"]

_BAR = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


@dataclass(slots=True)
class Shared:
    """The options that every command takes, before or after its name."""

    redis_url: str | None = None
    broker_url: str | None = None
    namespace: str | None = None
    home: Path | None = None
    as_json: bool = False

    def over(self, other: "Shared") -> "Shared":
        """Return these options; where one is not given, that of `other`."""
        return Shared(
            self.redis_url or other.redis_url,
            self.broker_url or other.broker_url,
            self.namespace or other.namespace,
            self.home or other.home,
            self.as_json or other.as_json,
        )


@dataclass(slots=True)
class Session:
    """One command at work."""

    shared: Shared
    out: Console = field(default_factory=lambda: PlainConsole(highlight=False, soft_wrap=False))
    err: Console = field(default_factory=lambda: PlainConsole(stderr=True, highlight=False, soft_wrap=True))
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def as_json(self) -> bool:
        """Whether data is printed as JSON."""
        return self.shared.as_json

    @property
    def is_live(self) -> bool:
        """Whether somebody looks at a terminal."""
        return self.out.is_terminal and not self.as_json

    def print(self, *parts: Any) -> None:
        """Print text as it is: what it holds is no markup. Into a pipe a line stays one, however long it is."""
        is_text = all(isinstance(part, str | Text) for part in parts)
        self.out.print(*parts, markup=False, soft_wrap=is_text and not self.out.is_terminal)

    def print_json(self, value: Any) -> None:
        """Print one JSON value."""
        typer.echo(json_text(value, indent=2))

    def print_json_line(self, value: Any) -> None:
        """Print one JSON value on a line of its own, one of many."""
        typer.echo(json_text(value))

    def say(self, text: str) -> None:
        """Tell something that is not data: to stderr."""
        self.err.print(text, markup=False, style="dim")

    def following(self, total: int, what: str) -> Callable[[str], None]:
        """Return a function to call when the next of `total` steps begins: it moves a bar, in a pipe it prints lines.

        The bar stays until the command ends.
        """
        if not self.err.is_terminal or self.as_json:
            return self.say
        bar = self.stack.enter_context(Progress(*_BAR, console=self.err, transient=True))
        task = bar.add_task(what, total=total)
        begun = count()
        return lambda step: bar.update(task, description=step, completed=next(begun))

    def advancing(self, total: int, what: str) -> Callable[[int], None]:
        """Return a function to call with how many of `total` are done: it moves a bar; in a pipe it does nothing.

        The bar stays until the command ends.
        """
        if not self.err.is_terminal or self.as_json:
            return lambda _: None
        bar = self.stack.enter_context(Progress(*_BAR, console=self.err, transient=True))
        task = bar.add_task(what, total=total)
        return lambda done: bar.update(task, completed=done)

    def client(self, *, creates: bool = False) -> Client:
        """Return a client, for the server that was given or the embedded one.

        Args:
            creates: Start an embedded server also where there is no data yet.

        Raises:
            NoServerError: no server is given, and there is no embedded one to look at.

        """
        settings = self.settings(creates=creates)
        return self.stack.enter_context(Client(settings=settings))

    def settings(self, *, creates: bool = False) -> Settings:
        """Return the settings with the URLs to use; starts the embedded server where no URL was given."""
        settings = self.given_settings()
        if not self.is_embedded:
            return settings
        url = self._embedded(creates=creates)
        broker_url = self.shared.broker_url or (url if self.shared.home else settings.broker_url or url)
        return replace(settings, redis_url=url, broker_url=broker_url)

    @property
    def is_embedded(self) -> bool:
        """Whether nobody gave the URL of a server, or a data folder was asked for."""
        if self.shared.redis_url:
            return False
        return self.shared.home is not None or not self.given_settings().redis_url

    def given_settings(self) -> Settings:
        """Return the settings of the environment and the options, as they are."""
        shared = self.shared
        given = {"redis_url": shared.redis_url, "broker_url": shared.broker_url, "namespace": shared.namespace}
        try:
            # An empty one, such as that of a variable that is not set, is none: it hides nothing of the environment.
            return Settings.from_env(os.environ, **{name: value or None for name, value in given.items()})
        except ValueError as error:
            raise Mistake(str(error)) from None

    def _embedded(self, *, creates: bool) -> str:
        home = self.shared.home or default_home(os.environ)
        server = EmbeddedServer(home, self.say)
        if not creates and not server.has_data:
            raise NoServerError(
                f"no server is given: set STABILIZE_REDIS_URL or --redis-url. (There is no embedded server in {home} "
                "either; `stabilize-celery demo`, `start` and `worker` make one.)"
            )
        try:
            return self.stack.enter_context(server).url
        except OSError as error:
            raise Mistake(f"the embedded server can't keep its data in {home}: {error.strerror or error}") from None
