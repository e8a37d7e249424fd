"""Redis ends under load: no request fails, none waits long, and the cache comes back by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.redis_server import RedisStack, free_port
from tests.service.conftest import Serve

pytestmark = [pytest.mark.redis, pytest.mark.slow]

CLIENTS = 8
TIMEOUT_S = 0.25
BOUND_S = 2.0
"""The store's time-out, and room for a busy machine."""


class Load:
    """Clients that ask, keep and ask again, without a pause, until the end."""

    def __init__(self, url: str) -> None:
        self.url, self.failed = url, list[str]()
        self.took, self.hits = list[tuple[float, float]](), list[float]()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for one in self._threads:
            one.join()

    def _ask(self, number: int) -> None:
        asked = {"model": "m", "messages": [{"role": "user", "content": f"Part {number}?"}]}
        told = {**asked, "answer": {"content": str(number)}}
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self._end.is_set():
                for path, body in (
                    ("cache/set", told),
                    ("cache/get", asked),
                    ("chat/completions", asked),
                ):
                    began = time.monotonic()
                    try:
                        found = client.post(f"/v1/{path}", json=body)
                    except httpx.HTTPError as error:
                        self.failed.append(repr(error))
                        continue
                    if not found.is_success:
                        self.failed.append(found.text)
                    elif found.json().get("outcome") == "hit":
                        self.hits.append(time.monotonic())
                    self.took.append((began, time.monotonic() - began))

    def wait_for_hits(self, patience: float) -> float:
        """Return how many seconds passed until there were hits again."""
        began = time.monotonic()
        while time.monotonic() < began + patience:
            if sum(moment > began for moment in list(self.hits)) > CLIENTS:
                return time.monotonic() - began
            time.sleep(0.05)
        raise AssertionError(f"no hits within {patience} s")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def stack(redis_server: str, port: int, tmp_path: Path) -> Iterator[RedisStack]:
    """Give a Redis of the test's own, to be ended and started again in its place."""
    del redis_server  # it skips where none can be had
    with RedisStack(port=port, folder=tmp_path) as server:
        yield server


def test_requests_go_on_while_redis_is_gone_and_hit_when_it_is_back(
    serve: Serve, stack: RedisStack
) -> None:
    url = serve(cache=stack.url, timeout=TIMEOUT_S)
    assert httpx.get(f"{url}/ready").json() == {
        "ready": True,
        "store": "ok",
        "embedder": "off",
        "upstream": "ok",
        "upstreams": {"default": "ok"},
    }
    with Load(url) as load:
        load.wait_for_hits(10)
        for trouble, mend in ((stack.kill, stack.start), (stack.freeze, stack.thaw)):
            trouble()
            time.sleep(1.5)
            assert httpx.get(f"{url}/ready").status_code == 503
            assert httpx.get(f"{url}/health").is_success
            mend()
            load.wait_for_hits(10)
    assert httpx.get(f"{url}/ready").is_success
    assert load.failed == []
    assert len(load.took) > 500
    assert max(took for _, took in load.took) < BOUND_S
