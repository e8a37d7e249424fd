"""Embeddings through the proxy, and what it only passes on."""

from __future__ import annotations

import base64
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from shared_core.service.access import new_key
from tests.service.conftest import Serve
from tests.service.test_proxy import KEY, TLS, post, status
from tests.service.upstream import Upstream

pytestmark = pytest.mark.slow  # two servers for each test


ECHO = ("* /v1/echo/*", "DELETE /v1/nothing")


def embed(url: str, inputs: Any, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    return post(url, {"model": "e", "input": inputs, **more}, "embeddings", **headers)


def vectors(response: httpx.Response) -> list[Any]:
    found = response.json()["data"]
    assert [one["index"] for one in found] == list(range(len(found)))
    return [one["embedding"] for one in found]


def unpacked(text: str) -> list[float]:
    return list(struct.unpack("<2f", base64.b64decode(text)))


# ------------------------------------------------------------------------------------ embeddings


def test_only_what_is_not_known_is_asked_for(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    first = embed(url, ["a", "bb"])
    assert (status(first), first.json()["usage"]["total_tokens"]) == ("miss", 14)
    mixed = embed(url, ["ccc", "a", "ccc", "bb"])
    assert status(mixed) == "miss"
    assert upstream.bodies[-1]["input"] == ["ccc"]
    assert mixed.json()["usage"]["total_tokens"] == 7
    assert vectors(mixed) == [[1.0, 0.5], [1 / 3, 0.5], [1.0, 0.5], [2 / 3, 0.5]]
    known = embed(url, "bb")
    assert (status(known), vectors(known)) == ("hit", [[2 / 3, 0.5]])
    assert known.json()["usage"]["total_tokens"] == 0
    assert upstream.calls == 2


def test_a_first_answer_is_the_upstreams_byte_for_byte(serve: Serve, upstream: Upstream) -> None:
    direct = httpx.post(f"{upstream.url}/embeddings", json={"model": "e", "input": ["a"]})
    assert embed(serve(), ["a"]).content == direct.content


def test_floats_and_base64_are_the_same_vectors(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    packed = vectors(embed(url, ["a", "bb"], encoding_format="base64"))
    assert vectors(embed(url, ["a", "bb"], encoding_format="base64")) == packed
    assert vectors(embed(url, ["a", "bb"], encoding_format="float")) == [
        unpacked(one) for one in packed
    ]
    floats = vectors(embed(url, ["ccc", "dddd"]))
    again = vectors(embed(url, ["ccc", "dddd"], encoding_format="base64"))
    assert [unpacked(one) for one in again] == [pytest.approx(one) for one in floats]
    assert upstream.calls == 2


def test_tokens_and_other_models_are_told_apart(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    embed(url, "[1, 2]")
    assert status(embed(url, [1, 2])) == "miss"
    assert status(embed(url, [[1, 2], [3]])) == "miss"
    assert upstream.bodies[-1]["input"] == [[3]]
    assert status(embed(url, [[3]])) == "hit"
    assert status(embed(url, "[1, 2]", dimensions=2)) == "miss"
    assert status(embed(url, "[1, 2]", endpoint="x")) == "miss"
    assert status(embed(url, "[1, 2]", user="u")) == "hit"
    assert status(embed(url, "[1, 2]", headers={"authorization": "Bearer sk-two"})) == "miss"


def test_embeddings_follow_the_headers(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    embed(url, "a", headers={"cache-control": "no-store"})
    assert status(embed(url, "a")) == "miss"
    assert status(embed(url, "a", headers={"cache-control": "no-cache"})) == "bypass"
    assert status(embed(url, "a", headers={"x-tiered-cache-namespace": "eu"})) == "miss"
    assert upstream.calls == 4


def test_an_error_for_embeddings_is_passed_on_and_not_kept(
    serve: Serve, upstream: Upstream
) -> None:
    url = serve()
    embed(url, ["a"])
    for told in ((429, {"error": {}}, {"retry-after": "3"}), (200, {"data": []}, {})):
        upstream.refusals = [told]
        found = embed(url, ["bb"])
        assert (found.status_code, found.json()) == told[:2]
    upstream.refusals = [(200, {"data": [{"index": 0, "embedding": "no base64"}]}, {})]
    assert vectors(embed(url, ["a", "bb"])) == [[1 / 3, 0.5], [2 / 3, 0.5]], "asked for whole"
    odd = embed(url, [""])
    assert (odd.status_code, status(odd)) == (400, "bypass")


def test_equal_embeddings_at_one_time_are_one_call(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    upstream.latency = 0.5
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: embed(url, ["a", "bb"]), range(8)))
    assert [vectors(one) for one in found] == [[[1 / 3, 0.5], [2 / 3, 0.5]]] * 8
    assert upstream.calls == 1


# ------------------------------------------------------------------------------------- passed on


def test_what_the_operator_names_is_passed_on_as_it_is(serve: Serve, upstream: Upstream) -> None:
    url = serve(allow=ECHO)
    assert httpx.get(f"{url}/v1/models", headers=KEY, verify=TLS).json()["data"]
    body = bytes(range(256)) * 1000
    put = httpx.put(f"{url}/v1/echo/a%2Fb-c?x=1&x=2", content=body, headers=KEY, verify=TLS)
    assert put.content == body
    assert (status(put), put.headers["x-of"]) == ("bypass", "a/b-c")
    assert "connection" not in put.headers
    told = httpx.get(f"{url}/v1/echo/a%2Fb-c?x=1&x=2", headers=KEY, verify=TLS).json()
    assert told == {"path": "/v1/echo/a%2Fb-c", "query": "x=1&x=2"}
    gone = httpx.delete(f"{url}/v1/nothing", headers=KEY, verify=TLS)
    assert (gone.status_code, status(gone)) == (404, "bypass")


def test_a_body_is_passed_on_as_it_comes(serve: Serve, upstream: Upstream) -> None:
    def pieces() -> Any:
        for _ in range(50):
            yield b"x" * 10_000

    put = httpx.put(f"{serve(allow=ECHO)}/v1/echo/a", content=pieces(), headers=KEY, verify=TLS)
    assert len(put.content) == 500_000


def test_a_cookie_for_one_caller_is_not_sent_for_another(serve: Serve, upstream: Upstream) -> None:
    url = serve(allow=ECHO)
    first = httpx.get(f"{url}/v1/echo/a", headers=KEY, verify=TLS)
    assert "of-one-caller" in first.headers["set-cookie"]
    httpx.get(f"{url}/v1/echo/a", headers={"authorization": "Bearer sk-two"}, verify=TLS)
    assert "cookie" not in upstream.headers[-1]


def test_headers_between_two_machines_stay_there(serve: Serve, upstream: Upstream) -> None:
    headers = {**KEY, "connection": "x-hop", "x-hop": "1", "te": "trailers", "x-on": "2"}
    httpx.get(f"{serve(allow=ECHO)}/v1/echo/a", headers=headers, verify=TLS)
    sent = upstream.headers[-1]
    assert sent["x-on"] == "2"
    assert "x-hop" not in sent
    assert "te" not in sent


@pytest.mark.parametrize("path", ["v1/..%2f..%2fsecret", "v1/%2e%2e/secret", "v1/a/%2E/b"])
def test_a_path_does_not_lead_out_of_the_upstreams_api(
    serve: Serve, upstream: Upstream, path: str
) -> None:
    found = httpx.get(f"{serve()}/{path}", headers=KEY, verify=TLS)
    assert found.status_code == 400


def test_paths_of_the_service_are_not_passed_on(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    wrong = httpx.put(f"{url}/v1/cache/get", headers=KEY, verify=TLS)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert httpx.get(f"{url}/v1/cache/other", headers=KEY, verify=TLS).status_code == 404
    assert status(wrong) is None


def test_who_has_no_key_is_not_passed_on(serve: Serve, upstream: Upstream) -> None:
    key, entry = new_key("app")
    url = serve(keys=(str(entry),), upstream_key="sk-server", allow=ECHO)
    assert httpx.get(f"{url}/v1/models", headers=KEY, verify=TLS).status_code == 401
    own = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{url}/v1/echo/a", headers=own, verify=TLS).is_success
    assert upstream.headers[-1]["authorization"] == "Bearer sk-server"


def test_slow_upstreams_do_not_hold_up_others(serve: Serve, upstream: Upstream) -> None:
    """Forty slow calls under way, more than any pool has threads: a hit is answered meanwhile."""
    url = serve()
    post(url)
    upstream.latency = 2.0
    with ThreadPoolExecutor(40) as pool:
        slow = [
            pool.submit(
                post, url, {"model": "m", "messages": [{"role": "user", "content": str(i)}]}
            )
            for i in range(40)
        ]
        while upstream.calls < 41:
            threading.Event().wait(0.01)
        assert status(post(url)) == "hit"
        assert not any(one.done() for one in slow)
        assert all(one.result().is_success for one in slow)
