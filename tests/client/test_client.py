"""``CachedClient`` on the real SDK over a mock transport: blocking, awaited, streamed, batched."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

import openai

from shared_core import Answer, Request, ResponseCache, standalone
from shared_core.client import CachedClient
from shared_core.client.provider import RateLimit, Retries, Waiting
from shared_core.costs import Budget, Costs, Overspent
from shared_core.openai_format import CachedResponse, Endpoint, request_of
from shared_core.usage import Price
from tests.client.test_limits import Sleeper
from tests.fakes import fake_embed
from tests.openai_server import TOOL_CALL, Server

Ask = Callable[..., CachedResponse]

OPENAI = Endpoint("openai", "https://api.openai.com/v1", {})
GOLDEN = [
    one
    for one in json.loads((Path(__file__).parents[1] / "data" / "golden_keys.json").read_text())
    if one["request"]["params"]["provider"] == "openai"
]
PRICES = {"m": Price(1.0, 10.0, cache_read=0.1)}
COST = 1000 * 1e-6 + 100 * 10e-6


def user(text: str, system: str | None = None) -> list[dict[str, Any]]:
    front = [] if system is None else [{"role": "system", "content": system}]
    return [*front, {"role": "user", "content": text}]


QUESTION = user("What is a fuse?")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def cache() -> Iterator[ResponseCache]:
    with ResponseCache.open(semantic=False) as opened:
        yield opened


def client_of(server: Server, cache: ResponseCache, **options: Any) -> CachedClient:
    options.setdefault("costs", Costs(PRICES))
    return CachedClient(cache, server.client(), server.async_client(), **options)


def chat(client: CachedClient, *args: Any, **kwargs: Any) -> CachedResponse:
    return client.chat(*args, **{"model": "m", **kwargs})


def achat(client: CachedClient, *args: Any, **kwargs: Any) -> CachedResponse:
    return asyncio.run(client.achat(*args, **{"model": "m", **kwargs}))


def stream(client: CachedClient, *args: Any, **kwargs: Any) -> CachedResponse:
    with client.stream(*args, **{"model": "m", **kwargs}) as texts:
        assert "".join(texts) == texts.response.content
    return texts.response


def astream(client: CachedClient, *args: Any, **kwargs: Any) -> CachedResponse:
    async def read() -> CachedResponse:
        async with client.astream(*args, **{"model": "m", **kwargs}) as texts:
            assert "".join([text async for text in texts]) == texts.response.content
        return texts.response

    return asyncio.run(read())


WAYS = pytest.mark.parametrize("ask", [chat, achat, stream, astream])
WHOLE = pytest.mark.parametrize("ask", [chat, achat])


@WAYS
def test_an_answer_is_asked_for_once(server: Server, cache: ResponseCache, ask: Ask) -> None:
    client = client_of(server, cache)
    fresh, again = ask(client, QUESTION), ask(client, QUESTION)
    assert fresh.content == again.content == "answer to What is a fuse?"
    assert (fresh.cached, fresh.cache_tier, fresh.saved) == (False, None, 0.0)
    assert (again.cached, again.cache_tier, again.cost) == (True, "exact", 0.0)
    assert fresh.cost == again.saved == pytest.approx(COST)
    assert fresh.entry_id == again.entry_id is not None
    assert fresh.usage == again.usage
    assert fresh.usage is not None
    assert fresh.usage["input_tokens"] == 1000
    assert fresh.model == again.model == "m-0718"
    assert fresh.finish_reason == again.finish_reason == "stop"
    assert fresh.message == again.message == {"role": "assistant", "content": fresh.content}
    assert fresh.latency_ms > 0
    assert not fresh.estimated
    assert len(server.bodies) == 1


@pytest.mark.parametrize("first", [chat, achat, stream, astream])
@WAYS
def test_all_ways_share_their_answers(
    server: Server, cache: ResponseCache, first: Ask, ask: Ask
) -> None:
    client = client_of(server, cache)
    first(client, QUESTION)
    assert ask(client, QUESTION).cached


@WAYS
def test_the_same_question_in_other_words_is_answered_by_meaning(server: Server, ask: Ask) -> None:
    cache = ResponseCache.open(embedder=fake_embed, threshold=0.8, guard=False)
    client = client_of(server, cache)
    ask(client, QUESTION)
    found = ask(client, user("What is a fuse, please?"))
    assert (found.cache_tier, found.content) == ("semantic", "answer to What is a fuse?")
    other = ask(client, user("What is a fuse, please?", system="Be brief."))
    assert not other.cached


@WAYS
def test_tool_calls_come_back_whole(server: Server, cache: ResponseCache, ask: Ask) -> None:
    server.message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
    client = client_of(server, cache)
    fresh, again = ask(client, QUESTION), ask(client, QUESTION)
    assert again.cached
    assert fresh.message == again.message
    (call,) = again.message["tool_calls"]
    assert call["function"] == TOOL_CALL["function"]
    turn = [*QUESTION, again.message, {"role": "tool", "content": "31", "tool_call_id": "call_9"}]
    server.message = None
    assert ask(client, turn).content == "answer to 31"


def test_several_choices_a_refusal_and_logprobs_are_not_for_other_frameworks(
    server: Server, cache: ResponseCache
) -> None:
    server.message = {"role": "assistant", "content": None, "refusal": "I will not."}
    client = client_of(server, cache)
    chat(client, QUESTION)
    again = chat(client, QUESTION)
    assert again.message["refusal"] == "I will not."
    hit = cache.lookup(request_of(OPENAI, QUESTION, {"model": "m"}))
    assert hit.answer.format == "openai/1"  # type: ignore[union-attr]
    assert hit.answer.exact_only  # type: ignore[union-attr]


@pytest.mark.parametrize("golden", GOLDEN, ids=[one["name"] for one in GOLDEN])
def test_keys_are_those_of_the_frameworks(golden: dict[str, Any]) -> None:
    asked = golden["request"]
    params = dict(asked["params"])
    endpoint = Endpoint(params.pop("provider"), params.pop("base_url", OPENAI.base_url), {})
    if "response_schema" in params:
        params["response_format"] = params.pop("response_schema")
    messages = [*asked.get("history", ())]
    if "system" in asked:
        messages.insert(0, {"role": "system", "content": asked["system"]})
    if asked["question"] is not None:
        messages.append({"role": "user", "content": asked["question"]})
    arguments = {**params, "timeout": 3, "stream": True, "stop": params.get("stop")}
    assert request_of(endpoint, messages, arguments).address("default").key == golden["key"]


def test_an_answer_is_shared_with_langchain(server: Server, cache: ResponseCache) -> None:
    from langchain_core.outputs import Generation

    from langchain_tiered_cache import TieredCache

    golden = next(one for one in GOLDEN if one["name"] == "question alone")
    tiered = TieredCache(cache=cache)
    client = client_of(server, cache)
    client.chat(QUESTION, model="gpt-4o-mini", temperature=0)
    found = tiered.lookup(golden["prompt"], golden["llm_string"])
    assert found is not None
    assert found[0].text == "answer to What is a fuse?"
    cache.clear()
    tiered.update(golden["prompt"], golden["llm_string"], [Generation(text="of LangChain")])
    assert client.chat(QUESTION, model="gpt-4o-mini", temperature=0).content == "of LangChain"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"temperature": 0}),
        ({"seed": 1}, {"seed": 2}),
        ({"model": "m"}, {"model": "n"}),
        ({}, {"extra_body": {"top_k": 3}}),
        ({"extra_query": {"v": "1"}}, {"extra_query": {"v": "2"}}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        ({"user": "a"}, {"user": "b"}),
    ],
)
def test_what_an_answer_depends_on_is_in_the_key(one: Any, other: Any) -> None:
    keys = {
        request_of(OPENAI, QUESTION, {"model": "m", **params}).address("d").key
        for params in (one, other)
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": 3},
        {"extra_headers": {"User-Agent": "me", "X-Request-Id": "1"}},
        {"stop": None},
        {"temperature": openai.NOT_GIVEN},
        {"metadata": {"a": "b"}},
        {"n": 1},
    ],
)
def test_what_no_answer_depends_on_is_not_in_the_key(arguments: dict[str, Any]) -> None:
    plain = request_of(OPENAI, QUESTION, {"model": "m"})
    assert request_of(OPENAI, QUESTION, {"model": "m", **arguments}) == plain


def test_material_images_and_tool_results_are_matched_exactly_alone() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    text = {"type": "text", "text": "What is it?"}
    for content, reason in (
        ("Context: a b.\n\nQuestion: c?", "template"),
        ([text, image], "multimodal"),
        ([text, text], "template"),
        (" ", "not_user_text"),
    ):
        message = {"role": "user", "content": content}
        assert request_of(OPENAI, [message], {"model": "m"}).exact_only == reason
    tool = {"role": "tool", "content": "31", "tool_call_id": "c"}
    assert request_of(OPENAI, [tool], {"model": "m"}).exact_only == "agent_turn"


@WAYS
def test_controls_of_one_call(server: Server, cache: ResponseCache, ask: Ask) -> None:
    client = client_of(server, cache)
    ask(client, QUESTION, write=False)
    assert not ask(client, QUESTION, tags=["fuses"], ttl=60).cached
    assert not ask(client, QUESTION, read=False, write=False).cached
    assert not ask(client, QUESTION, namespace="other").cached
    assert ask(client, QUESTION).cached
    cache.bump("fuses")
    assert not ask(client, QUESTION).cached
    assert all(body.keys() <= {"model", "messages", "stream", "stream_options"}
               for body in server.bodies)  # fmt: skip
    with pytest.raises(ValueError, match="ttl must be"):
        ask(client, QUESTION, ttl=-1)
    with pytest.raises(ValueError, match="tags must be a list"):
        ask(client, QUESTION, tags="fuses")


@WAYS
def test_controls_around_a_call_hold_too(server: Server, cache: ResponseCache, ask: Ask) -> None:
    client = client_of(server, cache)
    with cache.control(namespace="shop"):
        ask(client, QUESTION)
    assert not ask(client, QUESTION).cached
    assert ask(client, QUESTION, namespace="shop").cached
    assert client.costs.account().by_namespace.keys() == {"shop", "default"}


class BrokenCache(ResponseCache):
    """Fails where a cache must not."""

    def _break(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug in the cache")

    lookup = store = answer = _break

    async def aanswer(self, *_: Any, **__: Any) -> Any:
        self._break()


@WAYS
def test_a_cache_that_fails_is_gone_around(server: Server, ask: Ask) -> None:
    cache = BrokenCache.open(semantic=False)
    client = client_of(server, cache)
    response = ask(client, QUESTION)
    assert (response.content, response.cached) == ("answer to What is a fuse?", False)
    assert cache.stats().errors["client"] >= 1
    assert len(server.bodies) == 1


@WHOLE
def test_a_cache_that_fails_after_the_call_does_not_make_it_again(server: Server, ask: Ask) -> None:
    class FailsLate(ResponseCache):
        def answer(self, request: Request, model: Any, **_: Any) -> Answer:
            model()
            raise RuntimeError("disk on fire")

        async def aanswer(self, request: Request, model: Any, **_: Any) -> Answer:
            await model()
            raise RuntimeError("disk on fire")

    client = client_of(server, FailsLate.open(semantic=False))
    assert not ask(client, QUESTION).cached
    assert len(server.bodies) == 1


@WAYS
def test_a_payload_that_cannot_be_read_is_a_miss(
    server: Server, cache: ResponseCache, ask: Ask
) -> None:
    request = request_of(OPENAI, QUESTION, {"model": "m"})
    cache.store(request, Answer("?", payload="{}", format="openai/1"))
    response = ask(client_of(server, cache), QUESTION)
    assert (response.content, response.cached) == ("answer to What is a fuse?", False)


@WAYS
def test_arguments_without_identity_go_past_the_cache(
    server: Server, cache: ResponseCache, ask: Ask
) -> None:
    client = client_of(server, cache)
    for _ in range(2):
        assert not ask(client, QUESTION, extra_body={"at": datetime(2024, 1, 2)}).cached
    assert len(server.bodies) == 2
    assert cache.stats().stores == 0


@WAYS
def test_an_error_of_the_provider_is_the_callers_and_is_not_kept(
    server: Server, cache: ResponseCache, ask: Ask
) -> None:
    server.refusals = [(400, {})]
    client = client_of(server, cache)
    with pytest.raises(openai.BadRequestError):
        ask(client, QUESTION)
    assert ask(client, QUESTION).content == "answer to What is a fuse?"
    assert cache.stats().errors == {}


@WAYS
def test_refusals_are_waited_out(server: Server, cache: ResponseCache, ask: Ask) -> None:
    clock = Sleeper()

    async def asleep(seconds: float) -> None:
        clock.sleep(seconds)

    waiting = Waiting(clock.sleep, asleep)
    rate = RateLimit(clock=clock, sleep=clock.sleep, asleep=asleep)
    client = client_of(server, cache, rate=rate, retries=Retries(attempts=3), waiting=waiting)
    server.refusals = [(429, {"retry-after": "7"}), (503, {})]
    assert ask(client, QUESTION).content == "answer to What is a fuse?"
    assert len(server.bodies) == 3, "the SDK's own retries are off"
    assert 7 <= clock.now < 9
    server.refusals = [(500, {})] * 3
    with pytest.raises(openai.InternalServerError):
        ask(client, user("Another?"))
    assert server.refusals == []


def test_the_token_limit_goes_by_what_calls_really_take(
    server: Server, cache: ResponseCache
) -> None:
    clock = Sleeper()
    rate = RateLimit(tokens_per_minute=2500, clock=clock, sleep=clock.sleep)
    client = client_of(server, cache, rate=rate)
    for number in range(3):  # 1,100 tokens each, by the server's count
        chat(client, user(f"Question {number}?"), max_tokens=100)
    assert clock.now == pytest.approx(0)
    chat(client, user("Question 4?"), max_tokens=100)
    assert clock.now == pytest.approx(60, abs=0.1)


def test_threads_that_ask_the_same_share_one_call(server: Server, cache: ResponseCache) -> None:
    entered, go = threading.Event(), threading.Event()

    def hook() -> None:
        entered.set()
        assert go.wait(10)

    server.hook = hook
    client = client_of(server, cache)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(chat, client, QUESTION)
        assert entered.wait(10)
        rest = [pool.submit(chat, client, QUESTION) for _ in range(5)]
        go.set()
        responses = [one.result(10) for one in [first, *rest]]
    assert len(server.bodies) == 1
    assert [one.cached for one in responses] == [False] + [True] * 5
    assert {one.cache_tier for one in responses[1:]} <= {"shared", "exact"}
    account = client.costs.account().total
    assert (account.calls, account.hits) == (1, 5)


async def test_a_batcher_makes_equal_requests_one_call(
    server: Server, cache: ResponseCache
) -> None:
    client = client_of(server, cache, concurrency=64)
    async with client.batcher(model="m", window=0.005) as batcher:
        asked = [user(f"Question {n % 50}?", system=f"System {n % 3}") for n in range(1000)]
        responses = await asyncio.gather(*map(batcher.ask, asked))
    texts = [f"answer to Question {n % 50}?" for n in range(1000)]
    assert [one.content for one in responses] == texts
    assert len(server.bodies) == len({(n % 50, n % 3) for n in range(1000)}) == 150
    assert batcher.stats().saved == 850


# --------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("reason", ["stop", None])
def test_only_a_stream_that_says_why_it_ended_is_kept(
    server: Server, cache: ResponseCache, reason: str | None
) -> None:
    server.finish_reason = reason
    client = client_of(server, cache)
    stream(client, QUESTION)
    assert stream(client, QUESTION).cached == (reason == "stop")


def test_a_stream_that_is_left_early_is_not_kept(server: Server, cache: ResponseCache) -> None:
    client = client_of(server, cache, concurrency=1)
    with client.stream(QUESTION, model="m") as texts:
        assert next(texts) == "answer"
        with pytest.raises(RuntimeError, match="not ended"):
            assert texts.response

    async def leave() -> None:
        async with client.astream(QUESTION, model="m") as atexts:
            assert await anext(atexts) == "answer"

    asyncio.run(leave())
    assert not stream(client, QUESTION).cached, "and its place was given back"


def test_a_stream_says_its_texts_as_they_come(server: Server, cache: ResponseCache) -> None:
    client = client_of(server, cache)
    assert list(client.stream(QUESTION, model="m")) == ["answer", " to", " What", " is", " a",
                                                        " fuse?"]  # fmt: skip
    assert list(client.stream(QUESTION, model="m")) == ["answer to What is a fuse?"]


def test_usage_is_asked_for_where_it_is_known_and_else_estimated(
    server: Server, cache: ResponseCache
) -> None:
    costs = Costs(PRICES)
    stream(client_of(server, cache, costs=costs), QUESTION)
    assert server.bodies[-1]["stream_options"] == {"include_usage": True}
    client = CachedClient(cache, server.client(base_url="http://localhost:8000/v1"), costs=costs)
    response = stream(client, QUESTION)
    assert "stream_options" not in server.bodies[-1]
    assert response.estimated
    assert response.usage == {"input_tokens": 4, "output_tokens": 7}
    assert costs.account().total.estimated == 1


# ----------------------------------------------------------------------------------------- costs


def test_costs_are_those_of_calls_that_were_made(server: Server, cache: ResponseCache) -> None:
    passed: list[Overspent] = []
    client = client_of(server, cache, costs=Costs(PRICES, [Budget(1.5 * COST, passed.append)]))
    for text in ("a", "a", "a", "b"):
        chat(client, user(text))
    total = client.costs.account().total
    assert (total.calls, total.hits) == (2, 2)
    assert total.spent == pytest.approx(2 * COST)
    assert total.savings_rate == pytest.approx(0.5)
    assert len(passed) == 1


def test_what_the_providers_prompt_cache_had_is_cheaper(
    server: Server, cache: ResponseCache
) -> None:
    server.usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 0,
        "total_tokens": 1000,
        "prompt_tokens_details": {"cached_tokens": 600},
    }
    client = client_of(server, cache)
    response = chat(client, QUESTION)
    assert response.usage is not None
    assert response.usage["cached_tokens"] == 600
    assert response.cost == pytest.approx(400e-6 + 60e-6)
    assert client.costs.account().by_tier["prefix"].saved == pytest.approx(540e-6)


def test_a_hook_of_the_cache_and_the_client_do_not_count_twice(server: Server) -> None:
    costs = Costs(PRICES)
    cache = ResponseCache.open(semantic=False, hooks=[costs])
    client = client_of(server, cache, costs=costs)
    for _ in range(3):
        chat(client, QUESTION)
    assert costs.account().total.hits == 2


# ---------------------------------------------------------------------------------- construction


def test_a_way_without_its_client_says_what_to_give(server: Server, cache: ResponseCache) -> None:
    with pytest.raises(ValueError, match="give a client"):
        CachedClient(cache)
    with pytest.raises(ValueError, match="async_client="):
        achat(CachedClient(cache, server.client()), QUESTION)
    with pytest.raises(ValueError, match="client="):
        chat(CachedClient(cache, async_client=server.async_client()), QUESTION)
    with pytest.raises(ValueError, match="call stream"):
        chat(client_of(server, cache), QUESTION, stream=True)


def test_without_the_extra_it_names_it(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"tiered-llm-cache\[client\]"):
        CachedClient(cache, object())  # type: ignore[arg-type]


@WAYS
def test_a_follow_up_is_served_by_what_it_means(server: Server, ask: Ask) -> None:
    free = "How many projects can I have on the free plan?"
    asked: list[str] = []

    def rewrite(prompt: str) -> str:
        asked.append(prompt)
        return free

    def talk(said: str, question: str) -> list[dict[str, Any]]:
        return [*user(said), {"role": "assistant", "content": "Good."}, *user(question)]

    options = {"history": standalone(rewrite), "threshold": 0.9, "embedder": fake_embed}
    with ResponseCache.open(**options) as opened:  # type: ignore[arg-type]
        client = client_of(server, opened)
        first = ask(client, talk("I am on the free plan.", "How many projects can I have?"))
        again = ask(client, talk("We use the free plan.", "And how many projects are there?"))
    assert again.cached
    assert again.content == first.content
    assert len(asked) == 2
    assert len(server.bodies) == 1
