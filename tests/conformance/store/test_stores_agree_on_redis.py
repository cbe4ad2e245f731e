"""Random sessions that disturb each other: the memory store, which simulations stand on, does what a real Redis does."""

from typing import ClassVar

import pytest
import redis
from hypothesis import settings

from stabilize_celery.store.contract import Store
from stabilize_celery.store.redis_store import RedisStore
from tests.servers import RedisServer
from tests.unit.store.test_stores_agree import StoresAgree


class StoresAgreeOnRedis(StoresAgree):
    """As there, with a real server in the place of fakeredis; emptied before each run."""

    url: ClassVar[str] = ""

    def redis(self) -> Store:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
        return RedisStore(self.url)


@pytest.fixture(autouse=True, scope="module")
def _server(redis_server: RedisServer) -> None:
    StoresAgreeOnRedis.url = redis_server.url


TestStoresAgreeOnRedis = StoresAgreeOnRedis.TestCase
TestStoresAgreeOnRedis.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
