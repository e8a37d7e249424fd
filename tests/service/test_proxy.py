"""Completions through the proxy, read off the wire: what is sent, what is kept, what is told."""

from __future__ import annotations

import json
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared_core.service.access import new_key
from tests.service.conftest import Serve
from tests.service.upstream import Upstream

pytestmark = pytest.mark.slow  # two servers for each test

TLS = ssl.create_default_context()
"""Made once: it takes longer than a request."""

KEY = {"authorization": "Bearer sk-one"}
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "What is a fuse?"}]}
PROMPT: dict[str, Any] = {"model": "m", "prompt": "A fuse is"}
CHAT, TEXT = ("chat/completions", ASKED), ("completions", PROMPT)
KINDS = pytest.mark.parametrize(("path", "body"), [CHAT, TEXT], ids=["chat", "completions"])


def post(
    url: str, body: Any = ASKED, path: str = "chat/completions", **headers: str
) -> httpx.Response:
    given = {**KEY, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.post(f"{url}/v1/{path}", json=body, headers=given, timeout=20, verify=TLS)


def status(response: httpx.Response) -> str | None:
    return response.headers.get("x-tiered-cache")


def content(response: httpx.Response) -> Any:
    return response.json()["choices"][0]["message"]["content"]


def events(text: str) -> list[Any]:
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


# -------------------------------------------------------------------------------- miss and hit


@KINDS
def test_a_miss_is_the_upstreams_answer_byte_for_byte(
    serve: Serve, upstream: Upstream, path: str, body: Any
) -> None:
    url = serve()
    direct = httpx.post(f"{upstream.url}/{path}", json=body)
    upstream.bodies.clear()
    through = post(url, body, path)
    assert through.content == direct.content
    assert through.headers["content-type"] == direct.headers["content-type"]
    assert status(through) == "miss"
    assert through.headers["x-tiered-cache-reason"] == "absent"


@KINDS
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_same_request_again_is_answered_without_the_upstream(
    serve: Serve, upstream: Upstream, path: str, body: Any, stream: bool
) -> None:
    url = serve()
    first = post(url, {**body, "stream": stream}, path)
    again = post(url, body, path)
    streamed = post(url, {**body, "stream": True}, path)
    assert [status(one) for one in (first, again, streamed)] == ["miss", "hit", "hit"]
    assert upstream.calls == 1
    said = events(streamed.text)
    assert said[-1] == "[DONE]"
    choice = again.json()["choices"][0]
    text = choice["message"]["content"] if path.startswith("chat") else choice["text"]
    parts = [json.loads(one)["choices"][0] for one in said[:-1]]
    assert "".join(one.get("text") or (one.get("delta") or {}).get("content") or ""
                   for one in parts) == text  # fmt: skip
    assert parts[-1]["finish_reason"] == choice["finish_reason"] == "stop"
    assert again.json()["object"] == ("chat.completion" if "chat" in path else "text_completion")


def test_a_hit_says_where_it_is_from_and_is_a_completion_of_its_own(
    serve: Serve, upstream: Upstream
) -> None:
    url = serve()
    fresh, began = post(url).json(), int(time.time())
    hit, other = post(url), post(url)
    told = {name: value for name, value in hit.headers.items() if name.startswith("x-tiered")}
    entry_id = told.pop("x-tiered-cache-entry-id")
    assert told == {
        "x-tiered-cache": "hit",
        "x-tiered-cache-tier": "exact",
        "x-tiered-cache-similarity": "1.0000",
        "x-tiered-cache-age": told["x-tiered-cache-age"],
        "x-tiered-cache-saved-tokens": "1100",
    }
    assert int(told["x-tiered-cache-age"]) <= 5
    found = hit.json()
    assert found["id"] not in (fresh["id"], other.json()["id"])
    assert began <= found["created"] <= time.time()
    assert found["usage"] == fresh["usage"]
    assert found["model"] == fresh["model"]
    httpx.post(f"{url}/v1/cache/feedback", json={"entry_id": entry_id, "correct": False},
               headers=KEY)  # fmt: skip
    assert status(post(url)) == "miss", "what a person called wrong is not served again"


def test_what_the_cache_tells_can_be_hidden(serve: Serve, upstream: Upstream) -> None:
    url = serve(hide_headers=True)
    for _ in range(2):
        response = post(url)
        assert not [name for name in response.headers if name.startswith("x-tiered")]
    assert upstream.calls == 1


def test_keys_are_those_of_the_cache_api(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    told = {**ASKED, "params": {"temperature": 0}, "answer": {"content": "It melts."}}
    httpx.post(f"{url}/v1/cache/set", json=told, headers=KEY).raise_for_status()
    found = post(url, {**ASKED, "temperature": 0})
    assert (status(found), content(found), upstream.calls) == ("hit", "It melts.", 0)


LOGPROBS = {
    "content": [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []}],
    "refusal": None,
}
CALLS = [
    {"id": f"call_{i}", "type": "function", "function": {"name": "at", "arguments": '{"a": 1}'}}
    for i in range(2)
]


@pytest.mark.parametrize(
    "choices",
    [
        [{"message": {"role": "assistant", "content": "a b"}, "finish_reason": reason}
         for reason in ("stop", "stop")],
        [{"message": {"role": "assistant", "content": None, "tool_calls": CALLS},
          "finish_reason": "tool_calls"}],
        [{"message": {"role": "assistant", "content": "a"}, "logprobs": LOGPROBS,
          "finish_reason": "stop"}],
        [{"message": {"role": "assistant", "content": "a", "reasoning_content": "as b"},
          "finish_reason": "stop"}],
    ],
    ids=["n", "tools", "logprobs", "reasoning"],
)  # fmt: skip
@pytest.mark.parametrize("first", [False, True], ids=["whole", "streamed"])
def test_rich_answers_come_back_whole(
    serve: Serve, upstream: Upstream, choices: list[dict[str, Any]], first: bool
) -> None:
    url = serve()
    upstream.choices = choices
    post(url, {**ASKED, "stream": first})
    hit = post(url)
    assert status(hit) == "hit"
    for i, (found, said) in enumerate(zip(hit.json()["choices"], choices, strict=True)):
        assert found["index"] == i
        assert found["finish_reason"] == said["finish_reason"]
        assert found["logprobs"] == said.get("logprobs")
        message = {name: part for name, part in found["message"].items() if name != "refusal"}
        assert message | {"content": message["content"] or None} == said["message"]


def test_usage_ends_a_replayed_stream_that_asks_for_it(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    asked = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
    fresh = [json.loads(one) for one in events(post(url, asked).text)[:-1]]
    replayed = [json.loads(one) for one in events(post(url, asked).text)[:-1]]
    assert replayed[-1]["choices"] == fresh[-1]["choices"] == []
    assert replayed[-1]["usage"] == fresh[-1]["usage"]
    assert all(one["usage"] is None for one in replayed[:-1])
    plain = events(post(url, {**ASKED, "stream": True}).text)[:-1]
    assert all("usage" not in json.loads(one) for one in plain)


OTHERS: list[dict[str, Any]] = [
    {"model": "n"},
    {"temperature": 1},
    {"seed": 2},
    {"max_tokens": 3},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"response_format": {"type": "json_object"}},
    {"unknown": 1},
    {"messages": [{"role": "system", "content": "Be brief."}, *ASKED["messages"]]},
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is a fuse?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            }
        ]
    },
]


def test_another_request_is_not_answered_by_this_one(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    post(url)
    for changed in OTHERS:
        other = {**ASKED, **changed}
        assert [status(post(url, other)) for _ in range(2)] == ["miss", "hit"], changed


def test_chat_and_completions_never_answer_each_other(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    post(url, {"model": "m", "messages": [{"role": "user", "content": PROMPT["prompt"]}]})
    assert status(post(url, PROMPT, "completions")) == "miss"


def test_query_and_project_belong_to_the_request(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    post(url)
    assert status(post(url, path="chat/completions?api-version=2")) == "miss"
    assert status(post(url, path="chat/completions?api-version=2")) == "hit"
    assert status(post(url, openai_project="p")) == "miss"


# ------------------------------------------------------------------------------------- controls


def test_no_cache_asks_the_model_and_keeps_its_answer(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    post(url)
    upstream.choices = [{"message": {"role": "assistant", "content": "new"},
                         "finish_reason": "stop"}]  # fmt: skip
    assert status(post(url, cache_control="no-cache")) == "bypass"
    assert content(post(url)) == "new"
    assert upstream.calls == 2


def test_no_store_keeps_nothing(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    assert status(post(url, cache_control="no-store")) == "miss"
    assert status(post(url, {**ASKED, "stream": True}, cache_control="No-Store, x")) == "miss"
    assert status(post(url)) == "miss"
    assert status(post(url, cache_control="no-store")) == "hit", "what is there may be read"


def test_max_age_takes_no_older_answer(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    post(url)
    time.sleep(0.05)
    assert status(post(url, cache_control="max-age=60")) == "hit"
    old = post(url, cache_control="max-age=0")
    assert (status(old), old.headers["x-tiered-cache-reason"]) == ("miss", "age")
    assert upstream.calls == 2


def test_ttl_and_tags_are_those_of_the_headers(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    post(url, x_tiered_cache_ttl="0.2", x_tiered_cache_tags="prices, shop-7")
    assert status(post(url)) == "hit"
    time.sleep(0.25)
    assert status(post(url, x_tiered_cache_tags="prices, shop-7")) == "miss"
    removed = httpx.post(f"{url}/v1/cache/invalidate", json={"tag": "shop-7"}, headers=KEY)
    assert removed.json()["removed"] == 1
    assert status(post(url)) == "miss"


SENSELESS = [
    ("cache-control", "max-age=soon"),
    ("cache-control", "max-age"),
    ("x-tiered-cache-ttl", "0"),
    ("x-tiered-cache-ttl", "nan"),
    ("x-tiered-cache-ttl", "1_0"),
    ("x-tiered-cache-ttl", "99999999999"),
    ("x-tiered-cache-tags", "a,,b"),
    ("x-tiered-cache-tags", ",".join("abcdefghijklmnopq")),
    ("x-tiered-cache-tags", "x" * 65),
    ("x-tiered-cache-namespace", "a:b"),
]


def test_a_senseless_header_is_refused_and_named(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    for path in ("chat/completions", "completions", "embeddings"):
        for name, value in SENSELESS:
            found = post(url, {**ASKED, "prompt": "a", "input": "a"}, path, **{name: value})
            assert found.status_code == 400, (path, name, value)
            assert name in found.json()["error"]["message"]
    assert upstream.calls == 0


# ------------------------------------------------------------------------------ upstream's errors


REFUSALS: list[tuple[int, Any, dict[str, str]]] = [
    (429, {"error": {"message": "slow down", "code": "x"}}, {"retry-after": "7"}),
    (500, {"error": {"message": "no"}}, {}),
    (401, {"error": {"message": "who?"}}, {"www-authenticate": "Bearer"}),
    (200, {"error": {"message": "no credits"}}, {}),
    (200, {"choices": []}, {}),
    (200, ["what?"], {}),
    (404, "gone", {}),
    (503, {"choices": [{"message": {"content": "soon"}, "finish_reason": "stop"}]}, {}),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_error_of_the_upstream_is_passed_on_unchanged_and_not_kept(
    serve: Serve, upstream: Upstream, stream: bool
) -> None:
    url = serve()
    for number, refusal in enumerate(REFUSALS):
        asked = {**ASKED, "stream": stream, "seed": number}
        upstream.refusals = [refusal]
        found = post(url, asked)
        assert (found.status_code, found.json()) == refusal[:2]
        for name, value in refusal[2].items():
            assert found.headers[name] == value
        assert [status(post(url, asked)) for _ in range(2)] == ["miss", "hit"], refusal


def test_an_upstream_that_is_slow_or_gone_is_told_so(serve: Serve, upstream: Upstream) -> None:
    upstream.latency = 1.0
    slow = post(serve(upstream_timeout=0.1))
    assert (slow.status_code, slow.json()["error"]["code"]) == (504, "upstream_timeout")
    gone = post(serve(upstream="http://127.0.0.1:9/v1"))
    assert (gone.status_code, gone.json()["error"]["code"]) == (502, "upstream_unreachable")


def test_a_body_without_an_identity_is_for_the_upstream_to_refuse(
    serve: Serve, upstream: Upstream
) -> None:
    address = f"{serve()}/v1/chat/completions"
    for body in ("{", "[]", '{"model": 1}', '{"model": "m", "messages": 3}'):
        found = httpx.post(address, content=body, headers=KEY, verify=TLS)
        assert found.status_code == 400
        assert status(found) == "bypass"


def test_arguments_of_the_sdk_in_a_body_are_not_read_as_such(
    serve: Serve, upstream: Upstream
) -> None:
    url = serve()
    post(url, {**ASKED, "top_k": 1})
    assert status(post(url, {**ASKED, "extra_body": {"top_k": 1}})) == "bypass"


@pytest.mark.parametrize("cut", [0, 3])
def test_a_stream_that_breaks_off_breaks_off_at_the_client_and_is_not_kept(
    serve: Serve, upstream: Upstream, cut: int
) -> None:
    url = serve()
    upstream.cut = cut
    asked = {**ASKED, "stream": True}
    with pytest.raises(httpx.RemoteProtocolError):
        post(url, asked)
    upstream.cut = None
    assert status(post(url, asked)) == "miss"
    assert status(post(url, asked)) == "hit"


def test_a_stream_that_ends_without_a_reason_is_not_kept(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    upstream.choices = [{"message": {"role": "assistant", "content": "a"}, "finish_reason": None}]
    assert [status(post(url, {**ASKED, "stream": True})) for _ in range(2)] == ["miss", "miss"]


def test_an_answer_that_comes_packed_is_read_and_passed_on(
    serve: Serve, upstream: Upstream
) -> None:
    url = serve()
    upstream.packed = True
    first = post(url)
    assert content(first) == content(post(url)) == "answer to What is a fuse?"
    assert "content-encoding" not in first.headers
    assert upstream.calls == 1


def test_a_stream_that_the_client_leaves_is_not_kept(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    upstream.pause = 0.1
    asked = {**ASKED, "stream": True}
    address = f"{url}/v1/chat/completions"
    with httpx.stream("POST", address, json=asked, headers=KEY) as left:
        next(left.iter_bytes())
    time.sleep(1.2)
    assert upstream.sent[0] < 8, "and the upstream need not say the rest"
    assert status(post(url, asked)) == "miss"
    assert status(post(url, asked)) == "hit"


def test_a_stream_comes_as_it_is_made(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    upstream.pause = 0.1
    arrived = []
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json={**ASKED, "stream": True}, headers=KEY
    ) as live:
        for _ in live.iter_bytes():
            arrived.append(time.monotonic())
    assert arrived[-1] - arrived[0] > 0.4


# ----------------------------------------------------------------------------- many at one time


@pytest.mark.parametrize("leading", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("following", [False, True], ids=["whole", "streamed"])
def test_equal_requests_at_one_time_are_one_call(
    serve: Serve, upstream: Upstream, leading: bool, following: bool
) -> None:
    url = serve()
    upstream.latency, upstream.pause = 0.4, 0.1
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(post, url, {**ASKED, "stream": leading})
        while not upstream.calls:
            time.sleep(0.01)
        others = list(pool.map(lambda _: post(url, {**ASKED, "stream": following}), range(10)))
    assert status(first.result()) == "miss"
    assert [status(one) for one in others] == ["hit"] * 10
    assert {one.headers["x-tiered-cache-tier"] for one in others} == {"shared"}
    assert upstream.calls == 1


def test_servers_on_one_store_make_one_call_together(
    serve: Serve, upstream: Upstream, tmp_path: Path
) -> None:
    urls = [serve(cache=f"sqlite:///{tmp_path / 'shared.db'}") for _ in range(2)]
    upstream.latency = 0.5
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: post(urls[i % 2]), range(8)))
    assert sorted(str(status(one)) for one in found) == ["hit"] * 7 + ["miss"]
    assert upstream.calls == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_who_waited_for_a_call_that_failed_asks_for_itself(
    serve: Serve, upstream: Upstream, stream: bool
) -> None:
    url = serve()
    upstream.latency = 0.2
    upstream.refusals = [(500, {"error": {"message": "no"}}, {})]
    with ThreadPoolExecutor(4) as pool:
        asked = {**ASKED, "stream": stream}
        found = list(pool.map(lambda _: post(url, asked), range(4)))
    assert sorted(one.status_code for one in found) == [200, 200, 200, 500]


# ----------------------------------------------------------------------------------- credentials


def test_the_callers_credential_goes_on_and_answers_stay_with_it(
    serve: Serve, upstream: Upstream
) -> None:
    url = serve()
    post(url, x_tiered_cache_tags="a", accept_encoding="br", cookie="c=1")
    sent = upstream.headers[-1]
    assert sent["authorization"] == "Bearer sk-one"
    assert not [name for name in sent if name.startswith("x-tiered")]
    assert status(post(url, authorization="Bearer sk-two")) == "miss"
    assert status(post(url, authorization="Bearer sk-two")) == "hit"


def test_client_keys_stay_here_and_the_servers_own_goes_on(
    serve: Serve, upstream: Upstream
) -> None:
    key, entry = new_key("app", namespace="shop")
    url = serve(keys=(str(entry),), upstream_key="sk-server")
    assert post(url).status_code == 401
    assert status(post(url, authorization=f"Bearer {key}")) == "miss"
    assert upstream.headers[-1]["authorization"] == "Bearer sk-server"
    assert key not in json.dumps(upstream.headers)
    assert status(post(url, authorization="Bearer sk-x", x_tiered_cache_key=key)) == "hit"
    assert upstream.calls == 1


# ------------------------------------------------------------------------ what headers say


@KINDS
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x-portkey-config": "a"}, {"x-portkey-config": "b"}),
        ({"helicone-target-url": "a"}, {}),
        ({"openai-organization": "a"}, {"openai-organization": "b"}),
        ({"openai-beta": "a"}, {}),
        ({"cookie": "tenant=a"}, {"cookie": "tenant=b"}),
        ({"connection": "x-tenant", "x-tenant": "a"}, {"connection": "x-tenant", "x-tenant": "b"}),
    ],
    ids=str,
)
def test_requests_with_other_headers_never_share(
    serve: Serve, upstream: Upstream, path: str, body: Any, one: Any, other: Any
) -> None:
    url = serve()
    found = [post(url, body, path, **headers) for headers in (one, other, one, other)]
    assert [status(response) for response in found] == ["miss", "miss", "hit", "hit"]
    assert upstream.calls == 2


WAY = {
    "x-forwarded-for": "1.2.3.4",
    "X-Forwarded-Host": "a",
    "forwarded": "for=1.2.3.4",
    "via": "1.1 a",
    "x-real-ip": "1.2.3.4",
    "cf-ray": "7",
    "traceparent": "00-1",
    "baggage": "a=b",
    "x-request-id": "1",
    "x-b3-traceid": "1",
    "sec-fetch-mode": "cors",
}


@KINDS
def test_headers_of_the_way_and_harmless_ones_still_share_and_the_first_are_not_sent(
    serve: Serve, upstream: Upstream, path: str, body: Any
) -> None:
    url = serve()
    more: list[dict[str, str]] = [{}, WAY, {"user-agent": "me"}, {"accept-language": "de"}]
    found = [post(url, body, path, **headers) for headers in [*more, {"x-stainless-lang": "x"}]]
    assert [status(response) for response in found] == ["miss", "hit", "hit", "hit", "hit"]
    post(url, {**body, "seed": 1}, path, **WAY, **{"x-portkey-config": "a"})
    sent = {name.lower() for name in upstream.headers[-1]}
    assert "x-portkey-config" in sent
    assert not sent & {name.lower() for name in WAY}
