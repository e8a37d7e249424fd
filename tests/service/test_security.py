"""Who comes in, what they may, whose answers they see, and how much they may send."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import httpx
import pytest

from shared_core.cache import ResponseCache
from shared_core.request import Request
from shared_core.service.access import Keyring, new_key
from tests.service.conftest import Serve

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "What is a fuse?"}]}
ADMIN_ONLY = (
    ("GET", "/v1/cache/stats"),
    ("GET", "/metrics"),
    ("DELETE", "/v1/cache?namespace=shop&confirm=shop"),
)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def answered(text: str) -> dict[str, object]:
    return {**QUESTION, "answer": {"content": text}}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer tc-unknown"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"x-tiered-cache-key": "tc-unknown"},
        {"authorization": "Bearer é"},
    ],
)
def test_a_missing_or_unknown_key_is_401(serve: Serve, headers: dict[str, str]) -> None:
    url = serve(keys=(str(new_key("app")[1]),))
    raw = {name: value.encode() for name, value in headers.items()}
    for path in ("/v1/cache/get", "/v1/cache/set", "/v1/cache/warm"):
        refused = httpx.post(f"{url}{path}", json=QUESTION, headers=raw)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"


def test_a_key_of_the_right_hash_comes_in_by_either_header(serve: Serve) -> None:
    key, entry = new_key("app")
    url = serve(keys=(str(new_key("other")[1]), str(entry)))
    for headers in (bearer(key), {"x-tiered-cache-key": key, **bearer("sk-of-the-upstream")}):
        assert httpx.post(f"{url}/v1/cache/get", json=QUESTION, headers=headers).is_success


def test_the_hash_of_a_key_is_no_key() -> None:
    key, entry = new_key("app")
    ring = Keyring([str(entry)])
    assert ring.find(key) == entry
    assert ring.find(entry.digest) is None
    assert ring.find("") is None


def test_every_entry_is_compared_whichever_key_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_key(f"app{i}") for i in range(5)]
    ring, compared = Keyring(str(entry) for _, entry in made), []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("shared_core.service.access.hmac.compare_digest", compare)
    for key in (made[0][0], made[4][0], "tc-unknown"):
        compared.clear()
        ring.find(key)
        assert len(compared) == 5


@pytest.mark.parametrize(("method", "path"), ADMIN_ONLY)
def test_administration_needs_the_role(serve: Serve, method: str, path: str) -> None:
    user, of_user = new_key("app", "use", "shop")
    admin, of_admin = new_key("ops", "admin", "shop")
    url = serve(keys=(str(of_user), str(of_admin)))
    refused = httpx.request(method, f"{url}{path}", headers=bearer(user))
    assert refused.status_code == 403
    assert "--role admin" in refused.json()["error"]["message"]
    assert httpx.request(method, f"{url}{path}", headers=bearer(admin)).is_success


def test_without_keys_administration_is_of_this_machine_alone(serve: Serve) -> None:
    url = serve()
    for method, path in ADMIN_ONLY[:2]:
        assert httpx.request(method, f"{url}{path}").is_success
        for host in ("localhost", "localhost:1", "127.0.0.1", "[::1]", "[::1]:1"):
            assert httpx.request(method, f"{url}{path}", headers={"host": host}).is_success, host
        bad = ("evil.example", "127.0.0.1.evil.example:1", "[::1", "[::2]:1", "", ":1", "a:b:c")
        for headers in (*({"host": host} for host in bad), {"origin": "http://evil.example"}):
            refused = httpx.request(method, f"{url}{path}", headers=headers)
            assert refused.status_code == 403, headers
    assert httpx.get(f"{serve(admin=False)}/metrics").status_code == 403


def test_on_a_public_address_without_keys_administration_is_off(serve: Serve) -> None:
    refused = httpx.get(f"{serve(host='0.0.0.0')}/v1/cache/stats")
    assert refused.status_code == 403
    assert "off on a public address" in refused.json()["error"]["message"]


def test_a_page_of_another_origin_cannot_post_without_asking(serve: Serve) -> None:
    """Browsers send text/plain without a preflight: such a body is not read as JSON."""
    body = b'{"tag": "x"}'
    refused = httpx.post(
        f"{serve()}/v1/cache/invalidate", content=body, headers={"content-type": "text/plain"}
    )
    assert refused.status_code == 422


def test_without_keys_no_page_of_another_origin_may_ask(serve: Serve) -> None:
    """A name that an attacker points to this machine is of another origin, too."""
    url, named = serve(), serve(cors_origins=("https://app.example",))
    for origin, host in (
        ("https://app.example", "127.0.0.1:1"),
        ("http://evil.example:1", "evil.example:1"),
        ("null", "127.0.0.1:1"),
    ):
        headers = {"origin": origin, "host": host}
        refused = httpx.post(f"{url}/v1/cache/get", json=QUESTION, headers=headers)
        assert refused.status_code == 403, origin
    for base, origin in ((named, "https://app.example"), (url, url)):
        headers = {"origin": origin}
        assert httpx.post(f"{base}/v1/cache/get", json=QUESTION, headers=headers).is_success


def test_cors_is_off_unless_origins_are_named(serve: Serve) -> None:
    asking = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    closed = httpx.options(f"{serve()}/v1/cache/get", headers=asking)
    assert "access-control-allow-origin" not in closed.headers
    opened = httpx.options(
        f"{serve(cors_origins=('https://app.example',))}/v1/cache/get", headers=asking
    )
    assert opened.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in opened.headers


# ---------------------------------------------------------------------------------- namespaces


def test_keys_of_two_namespaces_never_share_an_answer_in_5_000_requests(serve: Serve) -> None:
    keys = {name: new_key(f"of-{name}", "use", name) for name in ("shop", "bank")}
    url = serve(keys=tuple(str(entry) for _, entry in keys.values()))
    chance, known, hits = random.Random(9), {name: set[str]() for name in keys}, 0
    with httpx.Client(base_url=url) as client:
        for _ in range(2_500):
            name, number = chance.choice(sorted(keys)), str(chance.randrange(40))
            headers = bearer(keys[name][0])
            asked = {"model": "m", "messages": [{"role": "user", "content": f"Part {number}?"}]}
            found = client.post("/v1/cache/get", json=asked, headers=headers).json()
            if found["outcome"] == "hit":
                hits += 1
                assert found["answer"]["content"] == f"{number} of {name}"
            assert (found["outcome"] == "hit") is (number in known[name])
            told = {**asked, "answer": {"content": f"{number} of {name}"}}
            assert client.post("/v1/cache/set", json=told, headers=headers).json()["stored"]
            known[name].add(number)
    assert hits > 2_000


def test_a_part_stays_inside_its_namespace(serve: Serve) -> None:
    shop, of_shop = new_key("a", "use", "shop")
    bank, of_bank = new_key("b", "use", "bank")
    url = serve(keys=(str(of_shop), str(of_bank)))

    def ask(key: str, part: str | None, path: str, body: object) -> httpx.Response:
        named = {} if part is None else {"x-tiered-cache-namespace": part}
        return httpx.post(f"{url}/v1/cache/{path}", json=body, headers=bearer(key) | named)

    assert ask(shop, "eu", "set", answered("of shop, eu")).json()["namespace"] == "shop:eu"
    for key, part in ((shop, None), (shop, "us"), (bank, "eu"), (bank, "shop")):
        assert ask(key, part, "get", QUESTION).json()["outcome"] == "miss"
    assert ask(shop, "eu", "get", QUESTION).json()["outcome"] == "hit"
    assert ask(bank, "shop:eu", "get", QUESTION).status_code == 400


def test_without_keys_answers_are_shared_only_within_a_credential(serve: Serve) -> None:
    url = serve()

    def found(**headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        done = httpx.post(f"{url}/v1/cache/get", json=QUESTION, headers=named)
        return str(done.json()["outcome"])

    httpx.post(f"{url}/v1/cache/set", json=answered("mine"), headers=bearer("sk-1"))
    assert found(authorization="Bearer sk-1") == "hit"
    assert found(authorization="Bearer sk-2") == "miss"
    assert found() == "miss"
    assert found(authorization="Bearer sk-1", x_api_key="k") == "miss"
    assert found(api_key="Bearer sk-1") == "miss"


def test_a_server_that_is_told_to_shares_across_credentials(serve: Serve) -> None:
    url = serve(shared=True)
    httpx.post(f"{url}/v1/cache/set", json=answered("ours"), headers=bearer("sk-1"))
    found = httpx.post(f"{url}/v1/cache/get", json=QUESTION, headers=bearer("sk-2")).json()
    assert found["outcome"] == "hit"
    assert found["namespace"] == "default"


def test_nobody_judges_or_deletes_entries_of_another_tenant(serve: Serve) -> None:
    bank, of_bank = new_key("b", "use", "bank")
    intruder, of_shop = new_key("a", "admin", "shop")
    url = serve(keys=(str(of_bank), str(of_shop)))
    kept = httpx.post(f"{url}/v1/cache/set", json=answered("x"), headers=bearer(bank)).json()

    wrong = {"entry_id": kept["entry_id"], "correct": False}
    taken = httpx.post(f"{url}/v1/cache/feedback", json=wrong, headers=bearer(intruder))
    assert taken.json() == {"taken": False}
    by_id = {"entry_id": kept["entry_id"]}
    gone = httpx.post(f"{url}/v1/cache/invalidate", json=by_id, headers=bearer(intruder))
    assert gone.json() == {"removed": 0}
    for path, method, body in (
        ("/v1/cache/invalidate", "POST", {"model": "m", "namespace": "bank"}),
        ("/v1/cache?namespace=bank&confirm=bank", "DELETE", None),
    ):
        refused = httpx.request(method, f"{url}{path}", json=body, headers=bearer(intruder))
        assert refused.status_code == 403
    found = httpx.post(f"{url}/v1/cache/get", json=QUESTION, headers=bearer(bank)).json()
    assert found["outcome"] == "hit"


# -------------------------------------------------------------------------------------- sizes


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b"x" * 1000


def test_a_body_that_is_too_large_is_413_with_and_without_its_length(serve: Serve) -> None:
    url = serve(body_limit=10_000)
    for content in (b"x" * 11_000, chunks(11_000)):
        refused = httpx.post(
            f"{url}/v1/cache/get", content=content, headers={"content-type": "application/json"}
        )
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "body_too_large"
    assert httpx.post(f"{url}/v1/cache/get", json=QUESTION).is_success


def test_headers_that_are_too_large_are_431(serve: Serve) -> None:
    url = serve(header_limit=4096)
    refused = httpx.get(f"{url}/health", headers={"x-large": "x" * 5_000})
    assert refused.status_code == 431
    assert httpx.get(f"{url}/health", headers={"x-small": "x" * 2_000}).is_success


# ---------------------------------------------------------------------------------------- logs


def test_a_bug_is_a_500_and_its_log_holds_no_prompt(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ResponseCache.open(semantic=False) as cache:

        def broken(request: Request) -> None:
            raise RuntimeError(f"cannot do {request.question}")

        monkeypatch.setattr(cache, "lookup", broken)
        with caplog.at_level(logging.DEBUG):
            failed = httpx.post(f"{serve(opened=cache)}/v1/cache/get", json=QUESTION)
    assert failed.status_code == 500
    assert "fuse" not in failed.text
    assert "RuntimeError at" in caplog.text
    assert "fuse" not in caplog.text


def test_a_refused_body_is_not_repeated(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    body = {"model": "m", "messages": "my secret prompt", "my secret field": 1}
    with caplog.at_level(logging.DEBUG):
        refused = httpx.post(f"{serve()}/v1/cache/get", json=body)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "messages"
    assert "secret prompt" not in refused.text + caplog.text
