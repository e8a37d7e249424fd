"""Which cache shares an answer between two calls that differ: a table of kinds and caches.

    PYTHONPATH=.:benchmarks python benchmarks/identity.py [--redis redis://localhost:6379]

Each kind is a pair of calls of LangChain models that differ in one thing. A cache shares if the
second call does not reach the model. The last rows are calls that are the same, and should share.
Caches that are not installed are left out; ``benchmarks/environments.py`` makes the environment of
langchain-redis, in which this command adds its columns: results are merged into
``benchmarks/results/identity.json``, and ``docs/identity.md`` has the table.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, create_model

from langchain_tiered_cache import TieredCache

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "identity.json"
PAGE = ROOT / "docs" / "identity.md"
BEGIN, END = "<!-- table of benchmarks/identity.py -->", "<!-- end of the table -->"
QUESTION = [HumanMessage("How much is in my account?")]


class Provider:
    """The API behind ChatOpenAI; counts what reaches it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        message = {"role": "assistant", "content": '{"x": 1}'}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
        return httpx.Response(200, json={**body, "choices": [choice]})

    def chat(self, cache: Any, **options: Any) -> ChatOpenAI:
        client = httpx.Client(transport=httpx.MockTransport(self))
        known = {"model": "gpt-4o-mini", "temperature": 0, "api_key": "sk-x"}
        return ChatOpenAI(**{**known, **options}, http_client=client, cache=cache)


class Hiding(BaseChatModel):
    """A chat model of an app's own, with settings that LangChain does not write down."""

    provider: Any = Field(exclude=True)
    excluded: str = Field("", exclude=True)
    token: SecretStr = SecretStr("")
    servers: Any = None
    _tenant: str = PrivateAttr("")

    @property
    def _llm_type(self) -> str:
        return "of-an-app"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "m", "temperature": 0.0}

    def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
        self.provider.calls += 1
        message = AIMessage("100 EUR", response_metadata={"finish_reason": "stop"})
        return ChatResult(generations=[ChatGeneration(message=message)])


class Masking(Hiding):
    """One that LangChain serialises, with a setting that it masks."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"servers": "SERVERS"}


class Completing(BaseLLM):
    """A completion model, whose calls take arguments."""

    provider: Any = Field(exclude=True)

    @property
    def _llm_type(self) -> str:
        return "completing"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "m"}

    def _generate(self, prompts: Any, *_: Any, **__: Any) -> LLMResult:
        self.provider.calls += 1
        return LLMResult(generations=[[Generation(text="100 EUR")] for _ in prompts])


Call = Callable[[Provider, Any], Any]


def chat(messages: Any = None, call: dict[str, Any] | None = None, **options: Any) -> Call:
    def ask(provider: Provider, cache: Any) -> Any:
        return provider.chat(cache, **options).invoke(messages or QUESTION, **(call or {}))

    return ask


def hiding(kind: type[Hiding] = Hiding, tenant: str = "", **options: Any) -> Call:
    def ask(provider: Provider, cache: Any) -> Any:
        model = kind(provider=provider, cache=cache, **options)
        model._tenant = tenant
        return model.invoke(QUESTION)

    return ask


def structured(**fields: Any) -> Call:
    schema: type[BaseModel] = create_model("Account", **fields)

    def ask(provider: Provider, cache: Any) -> Any:
        model = provider.chat(cache).with_structured_output(schema, include_raw=True)
        return model.invoke(QUESTION)

    return ask


def completing(**call: Any) -> Call:
    return lambda provider, cache: Completing(provider=provider, cache=cache).invoke("q", **call)


def after(**turn: Any) -> Call:
    return chat([HumanMessage("Hello"), AIMessage("Hi", **turn), *QUESTION])


def tool_turn(id: str) -> Call:
    calls = [{"name": "f", "args": {"x": 1}, "id": id}]
    return chat(
        [HumanMessage("q"), AIMessage("", tool_calls=calls), ToolMessage("1", tool_call_id=id)]
    )


DIFFERENT: dict[str, tuple[Call, Call]] = {
    "header of the model (`x-portkey-config`)": (
        chat(default_headers={"x-portkey-config": "a"}),
        chat(default_headers={"x-portkey-config": "b"}),
    ),
    "header of the call (`Authorization` of a user)": (
        chat(call={"extra_headers": {"Authorization": "Bearer a"}}),
        chat(call={"extra_headers": {"Authorization": "Bearer b"}}),
    ),
    "organization": (chat(organization="a"), chat(organization="b")),
    "argument of a completion model's call": (completing(temperature=0), completing(temperature=1)),
    "two schemas of one class name": (structured(x=(int, 0)), structured(x=(int, 0), y=(int, 0))),
    "field with `exclude=True`": (hiding(excluded="a"), hiding(excluded="b")),
    "`SecretStr` that is no API key": (
        hiding(token=SecretStr("a")),
        hiding(token=SecretStr("b")),
    ),
    "setting that LangChain masks (`mcp_servers`)": (
        hiding(Masking, servers=["a"]),
        hiding(Masking, servers=["b"]),
    ),
    "private attribute": (hiding(tenant="a"), hiding(tenant="b")),
}
SAME: dict[str, tuple[Call, Call]] = {
    "the same call": (chat(), chat()),
    "another API key": (chat(api_key="sk-1"), chat(api_key="sk-2")),
    "harmless header (`user-agent`)": (
        chat(default_headers={"user-agent": "a"}),
        chat(default_headers={"user-agent": "b"}),
    ),
    "time limit and retries": (chat(timeout=3, max_retries=1), chat(timeout=9, max_retries=2)),
    "usage and ids of an earlier turn": (
        after(id="run-1", response_metadata={"id": "chatcmpl-1"}),
        after(id="run-2", response_metadata={"id": "chatcmpl-2"}),
    ),
    "ids of tool calls": (tool_turn("call_a"), tool_turn("call_b")),
}


def caches(redis: str | None, folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the caches that are installed; each is made anew for each kind."""
    number = iter(range(10**6))
    yield "ours", lambda: TieredCache(semantic=False)
    yield f"langchain-core {version('langchain-core')} InMemoryCache", InMemoryCache
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from langchain_community.cache import SQLiteCache

        name = f"langchain-community {version('langchain-community')} SQLiteCache"
        yield name, lambda: SQLiteCache(str(folder / f"{next(number)}.db"))
    except ImportError:
        pass
    try:
        known = version("langchain-redis")
    except PackageNotFoundError:
        known = None
    if known is not None and redis is not None:
        from langchain_redis import RedisCache

        yield (
            f"langchain-redis {known} RedisCache",
            lambda: RedisCache(redis, prefix=f"identity-{next(number)}"),
        )


def shares(pair: tuple[Call, Call], cache: Any) -> bool | None:
    """Tell whether the second call is answered by the first one's answer; None: it fails."""
    provider = Provider()
    try:
        for call in pair:
            call(provider, cache)
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        print(f"  {type(error).__name__}: {str(error)[:100]}")
        return None
    return provider.calls == 1


def table(found: dict[str, dict[str, bool | None]]) -> str:
    """Return the results as Markdown: what should not be shared first."""
    names = list(found)
    said = {True: "shares", False: "no", None: "fails"}
    lines = [f"| two calls that differ in | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for kind in DIFFERENT:
        cells = [said[found[name].get(kind)].replace("shares", "**shares**") for name in names]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", f"| two calls that are the same but for | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for kind in SAME:
        lines.append(f"| {kind} | {' | '.join(said[found[name].get(kind)] for name in names)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="URL of a Redis for langchain-redis")
    redis = parser.parse_args().redis
    from tempfile import TemporaryDirectory

    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, make in caches(redis, Path(folder)):
            print(name)
            kinds = {**DIFFERENT, **SAME}
            found[name] = {kind: shares(pair, make()) for kind, pair in kinds.items()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(found)}\n\n{END}{tail}")
    print(table(found))


if __name__ == "__main__":
    main()
