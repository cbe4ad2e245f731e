"""URLs: what they say, and that credentials never show."""

import pytest
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.store.pools import connection_options, new_pool, sentinel_pool
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.store.redis_url import read_url, shown


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://user:SECRET@localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:SECRET/SECRET@localhost/0", "redis://localhost/0"),
        ("redis://:SEC@RET@localhost/0", "redis://localhost/0"),
        ("redis://localhost?db=2&password=SECRET&username=SECRET", "redis://localhost?db=2"),
        ("sentinel://:SECRET@a,b:2/0?master=m&sentinel_password=SECRET", "sentinel://a,b:2/0?master=m"),
        ("unix://:SECRET@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("SECRET", "a URL that can't be read"),
    ],
)
def test_shown(url: str, text: str) -> None:
    """Where the server is shows; user name and password do not."""
    assert shown(url) == text


@pytest.mark.parametrize(
    "url",
    [
        "SECRET",
        "http://SECRET@host",
        "redis://:SECRET/SECRET@host:1",
        "redis://u:SECRET@host:1x",
        "redis://u:SECRET@host?socket_timeout=x",
        "redis://u:SECRET@host?moon=full",
        "sentinel://u:SECRET@host",
        "sentinel://u:SECRET@?master=m",
        "redis+cluster://u:SECRET@host:x",
    ],
)
def test_bad_urls(url: str) -> None:
    """What can't be read is an error before anything is sent, without the credentials."""
    with pytest.raises(ConfigurationError) as caught:
        RedisStore(url)

    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("path", "number"),
    [
        *(("", 0), ("/", 0), ("/7", 7), ("/7/", 7), ("?db=7", 7), ("/7?db=7", 7)),
        *((bad, None) for bad in ("/abc", "/1x", "/-1", "/1/2", "/\uff11", "/7?db=8", "/0;redis://other/0")),
    ],
)
def test_the_path_is_the_number_of_a_database(path: str, number: int | None) -> None:
    """Anything else would silently be database 0, or another than was meant."""
    if number is not None:
        assert read_url(f"redis://:p@h:6379{path}").options.get("db", 0) == number
        return
    for url in (f"redis://:SECRET@h{path}", f"sentinel://h:1,h:2{path}{'&' if '?' in path else '?'}master=m"):
        with pytest.raises(ConfigurationError, match="number of a database") as caught:
            read_url(url)
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://h", Connection),
        ("rediss://h", SSLConnection),
        ("unix:///x", UnixDomainSocketConnection),
    ],
)
def test_one_server(url: str, kind: type) -> None:
    """The scheme tells the connection; redis-py's retries are off and its timeouts on, whatever the URL says."""
    settings = "?retry_on_timeout=true&decode_responses=true&protocol=3&socket_connect_timeout=2"
    pool = new_pool(connection_options(read_url(url + settings), 7.0, 1.5))
    connection = pool.make_connection()

    assert isinstance(connection, AbstractConnection)
    assert type(connection) is kind
    assert connection.retry.get_retries() == 0
    assert not connection.retry_on_timeout
    assert connection.protocol == 2
    assert not connection.encoder.decode_responses
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (8.5, 2.0)


def test_sentinels() -> None:
    """Every host with its port; the master's credentials and the sentinels' are two things."""
    url = "sentinel://u:p%40w@a,b:1234,[::1]:5/3?master=shop&sentinel_password=q&socket_timeout=4&ssl=true"
    place = read_url(url)
    pool = sentinel_pool(place, connection_options(place, 5.0, 0.0))

    assert (place.kind, place.master, place.nodes) == ("sentinel", "shop", [("a", 26379), ("b", 1234), ("::1", 5)])
    kwargs = pool.connection_kwargs
    assert [kwargs[name] for name in ("username", "password", "db", "socket_timeout")] == ["u", "p@w", 3, 4.0]
    assert issubclass(pool.connection_class, SSLConnection)
    assert pool.sentinel_manager.sentinel_kwargs["password"] == "q"


@pytest.mark.parametrize(("scheme", "kind"), [("redis+cluster", None), ("rediss+cluster", SSLConnection)])
def test_cluster(scheme: str, kind: type | None) -> None:
    """Some nodes to begin with; the options are the same for all."""
    place = read_url(f"{scheme}://:pw@a,b:7/?socket_timeout=4")

    assert (place.kind, place.nodes) == ("cluster", [("a", 6379), ("b", 7)])
    assert (place.options["password"], place.options.get("connection_class")) == ("pw", kind)
    assert "host" not in place.options
