"""The API with a worker behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.site import Site, site_with_a_worker


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_with_a_worker(Path(tmp_path_factory.mktemp("web")), append_only=False) as site:
        yield site
