"""The embedded server: started by the first, stopped by the last, keeps its data."""

import os
import signal
import stat
import time

import pytest
import redis

from stabilize_celery.cli import embedded
from stabilize_celery.cli.embedded import EmbeddedServer, default_home, find_binary
from stabilize_celery.cli.failures import NoServerError


def is_away(url):
    try:
        redis.Redis.from_url(url).ping()
    except redis.ConnectionError:
        return True
    return False


def test_the_last_user_stops_it(tmp_path):
    """Two use it, the first one leaves: it stays until the second leaves; one line says that it was started."""
    said: list[str] = []
    first, second = EmbeddedServer(tmp_path / "a b", said.append), EmbeddedServer(tmp_path / "a b", said.append)
    assert not first.has_data

    first.__enter__()
    second.__enter__()
    assert first.url == second.url
    assert len(said) == 1
    first.__exit__(None, None, None)
    assert not is_away(second.url)
    second.__exit__(None, None, None)
    first._process.wait(timeout=10)

    assert is_away(second.url)
    assert first.has_data


def test_its_data_stays(tmp_path):
    with EmbeddedServer(tmp_path, lambda _: None) as server, redis.Redis.from_url(server.url) as connection:
        connection.set("key", "value")
        settings = connection.config_get("*")
        assert (settings["appendonly"], settings["maxmemory-policy"]) == ("yes", "noeviction")
    with EmbeddedServer(tmp_path, lambda _: None) as server, redis.Redis.from_url(server.url) as connection:
        assert connection.get("key") == b"value"


def test_nobody_else_can_use_it(tmp_path):
    """It wants a password, and the file that has it is the user's alone."""
    with EmbeddedServer(tmp_path, lambda _: None) as server:
        port = int(server.url.rpartition(":")[2].split("/")[0])
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        for name in ("server.json", "server.conf"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_one_that_was_killed_is_started_again(tmp_path):
    """Its file still names it; the lock tells that it is dead, whoever has its process id now."""
    with EmbeddedServer(tmp_path, lambda _: None) as server:
        os.kill(server._process.pid, signal.SIGKILL)
        server._process.wait()
        with EmbeddedServer(tmp_path, lambda _: None) as second:
            assert not is_away(second.url)
    second._process.wait(timeout=10)


def test_a_server_whose_starter_was_killed_is_used_and_stopped(tmp_path):
    """The starter is gone without a goodbye: the next user takes the server over."""
    orphan = EmbeddedServer(tmp_path, lambda _: None)
    orphan.__enter__()
    os.close(orphan._shared)

    said: list[str] = []
    with EmbeddedServer(tmp_path, said.append) as server:
        assert server.url == orphan.url
    orphan._process.wait(timeout=10)

    assert said == []
    assert is_away(orphan.url)


def test_a_program_that_does_not_start_is_told_with_its_log(tmp_path, monkeypatch):
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho no memory left\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(embedded, "find_binary", lambda: broken)

    began = time.monotonic()
    with pytest.raises(NoServerError, match="no memory left"):
        EmbeddedServer(tmp_path / "home", lambda _: None).__enter__()
    assert time.monotonic() - began < 10


def test_an_old_program_is_not_taken(tmp_path, monkeypatch):
    """Redis 6.0 of an old distribution is passed over for the bundled one; without that, it is said what to do."""
    old = tmp_path / "redis-server"
    old.write_text('#!/bin/sh\necho "Redis server v=6.0.16 sha=0"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_binary() != old
    monkeypatch.setattr(embedded, "_bundled", lambda: None)
    with pytest.raises(NoServerError, match=r"6\.2"):
        find_binary()


def test_a_program_that_does_not_tell_its_version_is_not_taken(tmp_path):
    assert embedded._version(tmp_path / "missing") == (0, 0)


def test_the_data_folder(tmp_path):
    assert default_home({"STABILIZE_HOME": "/x"}).as_posix() == "/x"
    assert default_home({"XDG_DATA_HOME": "/d"}).as_posix() == "/d/stabilize-celery"
    assert default_home({}).parts[-3:] == (".local", "share", "stabilize-celery")
