"""Which cache shares an answer between two calls that differ: a table of kinds and caches.

    python benchmarks/environments.py
    PYTHONPATH=.:benchmarks python benchmarks/identity.py [--redis redis://localhost:6379]

Each kind is a pair of calls that differ in one thing. A cache shares if the second call does not
reach the model. The last rows are calls that are the same, and should share. Caches for LangChain
are asked here with its models, those that wrap an OpenAI-style call in ``identity_openai.py``; who
needs an environment of its own is asked in that of ``benchmarks/environments.py``, and the page
says who could not be. Without ``--redis``, a server with the search and JSON modules is started.
``benchmarks/results/identity.json`` and ``docs/identity.md`` are written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, create_model
from rounds import command, conditions, save
from worker import ENVIRONMENTS

ROOT = Path(__file__).parents[1]
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
    """Serialises itself for LangChain, with one setting masked."""

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


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as an app makes it: of which model, what, with what else."""

    model: Any
    messages: Any = field(default_factory=lambda: QUESTION)
    arguments: dict[str, Any] = field(default_factory=dict)
    schema: type[BaseModel] | None = None
    tenant: str | None = None

    def invoke(self) -> Any:
        model = self.model
        if self.schema is not None:
            model = model.with_structured_output(self.schema, include_raw=True)
        return model.invoke(self.messages, **self.arguments)


Call = Callable[[Provider, Any], Asked]


def chat(
    messages: Any = None,
    call: dict[str, Any] | None = None,
    schema: type[BaseModel] | None = None,
    tenant: str | None = None,
    **options: Any,
) -> Call:
    def ask(provider: Provider, cache: Any) -> Asked:
        model = provider.chat(cache, **options)
        return Asked(model, messages or QUESTION, call or {}, schema, tenant)

    return ask


def hiding(kind: type[Hiding] = Hiding, tenant: str = "", **options: Any) -> Call:
    def ask(provider: Provider, cache: Any) -> Asked:
        model = kind(provider=provider, cache=cache, **options)
        model._tenant = tenant
        return Asked(model)

    return ask


def structured(**fields: Any) -> Call:
    return chat(schema=create_model("Account", **fields))


def completing(**call: Any) -> Call:
    def ask(provider: Provider, cache: Any) -> Asked:
        return Asked(Completing(provider=provider, cache=cache), "q", call)

    return ask


def tools(name: str) -> Call:
    schema = {"name": name, "parameters": {"type": "object", "properties": {}}}
    return chat(call={"tools": [{"type": "function", "function": schema}]})


def image(address: str) -> Call:
    link = {"type": "image_url", "image_url": {"url": address}}
    return chat([HumanMessage([{"type": "text", "text": "What?"}, link])])


def custom_turn(code: str) -> Call:
    made = {"id": "c", "type": "custom", "custom": {"name": "python", "input": code}}
    turn = AIMessage("", additional_kwargs={"tool_calls": [made]})
    return chat([turn, ToolMessage("done", tool_call_id="c"), *QUESTION])


def after(**turn: Any) -> Call:
    return chat([HumanMessage("Hello"), AIMessage("Hi", **turn), *QUESTION])


def tool_turn(id: str) -> Call:
    calls = [{"name": "f", "args": {"x": 1}, "id": id}]
    return chat(
        [HumanMessage("q"), AIMessage("", tool_calls=calls), ToolMessage("1", tool_call_id=id)]
    )


DIFFERENT: dict[str, tuple[Call, Call]] = {
    "model": (chat(model="gpt-4o"), chat(model="gpt-4o-mini")),
    "`max_tokens`": (chat(max_tokens=10), chat(max_tokens=500)),
    "system message": (
        chat([SystemMessage("a"), *QUESTION]),
        chat([SystemMessage("b"), *QUESTION]),
    ),
    "earlier turn": (chat([AIMessage("a"), *QUESTION]), chat([AIMessage("b"), *QUESTION])),
    "tools": (tools("read"), tools("write")),
    "image": (image("https://example.org/a.png"), image("https://example.org/b.png")),
    "custom tool call of an earlier turn": (custom_turn("a"), custom_turn("b")),
    "tenant, by the cache's own means": (chat(tenant="a"), chat(tenant="b")),
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


Found = dict[str, bool | str]
COMPLETION = "argument of a completion model's call"
TENANT = "tenant, by the cache's own means"
NO_TENANT = (
    "-: nothing of a call names a tenant; an app gives each tenant a cache object of its own"
)
NO_OBJECT = (
    "-: it wraps functions, to which an app gives no model object and no message with metadata"
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A cache, made anew for each kind, how a call goes through it, what it cannot be asked."""

    name: str
    make: Callable[[], Any]
    ask: Callable[[Any, Call, Provider], object] = lambda cache, call, provider: call(
        provider, cache
    ).invoke()
    not_asked: dict[str, str] = field(default_factory=lambda: {TENANT: NO_TENANT})

    def found(self) -> Found:
        kinds = {**DIFFERENT, **SAME}
        return {kind: self.not_asked.get(kind) or self.shares(kinds[kind]) for kind in kinds}

    def shares(self, pair: tuple[Call, Call]) -> bool | str:
        """Tell whether the second call is answered by the first one's answer, or what happened.

        If it is not, the first call is made twice with a cache anew: an answer that is not kept
        for the very same call tells nothing about what the cache tells apart.
        """

        def reached(*calls: Call) -> int:
            provider, cache = Provider(), self.make()
            for call in calls:
                self.ask(cache, call, provider)
            return provider.calls

        first, second = pair
        try:
            if reached(first, second) == 1:
                return True
            return False if reached(first, first) == 1 else "not kept"
        except Exception as error:  # of a peer, which the page says
            return f"fails: {type(error).__name__}: {str(error).splitlines()[0][:90]}"


def ours() -> Peer:
    from langchain_tiered_cache import TieredCache

    def ask(cache: TieredCache, call: Call, provider: Provider) -> object:
        asked = call(provider, cache)
        if asked.tenant is None:
            return asked.invoke()
        with cache.cache.control(namespace=asked.tenant):
            return asked.invoke()

    return Peer("ours", lambda: TieredCache(semantic=False), ask, {})


def langchain_sqlite(folder: Path) -> Peer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cache import SQLiteCache

    number = iter(range(10**6))
    name = f"langchain-community {version('langchain-community')} SQLiteCache"
    return Peer(name, lambda: SQLiteCache(str(folder / f"{next(number)}.db")))


def langchain_redis(redis: str) -> Peer:
    from langchain_redis import RedisCache

    number = iter(range(10**6))
    name = f"langchain-redis {version('langchain-redis')} RedisCache"
    return Peer(name, lambda: RedisCache(redis, prefix=f"identity-{os.getpid()}-{next(number)}"))


def langgraph_redis(redis: str) -> Peer:
    """Return the middleware for agents; its vectors are made, which equal texts alone share."""
    from contender import made
    from langchain.agents.middleware.types import ModelRequest, ModelResponse
    from langchain.agents.structured_output import ProviderStrategy
    from langgraph.middleware.redis import SemanticCacheConfig, SemanticCacheMiddleware
    from redisvl.utils.vectorize import CustomVectorizer

    number = iter(range(10**6))
    loop = asyncio.new_event_loop()

    def make() -> SemanticCacheMiddleware:
        vectorizer = CustomVectorizer(lambda text, **_: made([text])[0].tolist())
        name = f"identity-{os.getpid()}-{next(number)}"
        config = SemanticCacheConfig(redis_url=redis, name=name, vectorizer=vectorizer)
        return SemanticCacheMiddleware(config)

    def ask(middleware: SemanticCacheMiddleware, call: Call, provider: Provider) -> object:
        asked = call(provider, False)
        arguments = dict(asked.arguments)
        system = [one for one in asked.messages if one.type == "system"]
        request = ModelRequest(
            model=asked.model,
            messages=[one for one in asked.messages if one.type != "system"],
            system_message=system[0] if system else None,
            tools=arguments.pop("tools", []),
            response_format=ProviderStrategy(asked.schema) if asked.schema else None,
            model_settings=arguments,
        )

        async def handler(_: Any) -> ModelResponse:
            if request.response_format is None:
                return ModelResponse(result=[asked.invoke()])
            model = asked.model.bind_tools([], **request.response_format.to_model_kwargs())
            return ModelResponse(result=[model.invoke(asked.messages)])

        return loop.run_until_complete(middleware.awrap_model_call(request, handler))

    name = f"langgraph-checkpoint-redis {version('langgraph-checkpoint-redis')}"
    not_asked = {TENANT: NO_TENANT, COMPLETION: "-: agents have chat models only"}
    return Peer(f"{name} SemanticCacheMiddleware", make, ask, not_asked)


def here(folder: Path) -> Iterator[Peer]:
    yield ours()
    yield Peer(f"langchain-core {version('langchain-core')} InMemoryCache", InMemoryCache)
    yield langchain_sqlite(folder)


ELSEWHERE = {
    "langchain-redis": ("identity.py", langchain_redis),
    "langgraph-redis": ("identity.py", langgraph_redis),
    "litellm": ("identity_openai.py", None),
    "gptcache-openai": ("identity_openai.py", None),
}


def elsewhere(name: str, redis: str) -> dict[str, Found]:
    """Ask a peer in its environment. Raises FileNotFoundError or CalledProcessError."""
    script, _ = ELSEWHERE[name]
    command = [str(ENVIRONMENTS / name / "bin/python"), f"benchmarks/{script}", name, redis]
    path = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"}
    done = subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True, check=True)
    told: dict[str, Found] = json.loads(done.stdout.splitlines()[-1])
    kinds = {**DIFFERENT, **SAME}
    for found in told.values():
        assert found.keys() <= kinds.keys(), found.keys() - kinds.keys()
        for kind in kinds:
            found.setdefault(kind, NO_OBJECT)
    return told


def cell(found: bool | str) -> str:
    if isinstance(found, str):
        return found.partition(":")[0]
    return "shares" if found else "no"


def table(found: dict[str, Found], left_out: dict[str, str]) -> str:
    """Return the results as Markdown: what should not be shared first, what was not asked last."""
    names = list(found)
    lines = [f"| two calls that differ in | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for kind in DIFFERENT:
        cells = [cell(found[name][kind]).replace("shares", "**shares**") for name in names]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", f"| two calls that are the same but for | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for kind in SAME:
        lines.append(f"| {kind} | {' | '.join(cell(found[name][kind]) for name in names)} |")
    why: dict[tuple[str, str], list[str]] = {}
    for name in names:
        for one in found[name].values():
            if isinstance(one, str) and ": " in one:
                sign, _, reason = one.partition(": ")
                why.setdefault((sign, reason), []).append(name)
    lines += ["", "Cells without an answer:", ""]
    lines.append("- `not kept`: made twice, the first call reaches the model twice")
    for (sign, reason), whose in why.items():
        lines.append(f"- {', '.join(dict.fromkeys(whose))}: `{sign}`, {reason}")
    lines += [f"- {name} was left out: {reason}" for name, reason in left_out.items()]
    return "\n".join(lines)


def main() -> None:
    from tests.redis_server import SEARCH, RedisStack

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="URL of a Redis with the search and JSON modules")
    given, where = parser.parse_args().redis, conditions(command())
    found: dict[str, Found] = {}
    left_out: dict[str, str] = {}
    with TemporaryDirectory() as folder, warnings.catch_warnings(), ExitStack() as closing:
        warnings.simplefilter("ignore")
        for peer in here(Path(folder)):
            found[peer.name] = peer.found()
        stack = RedisStack(modules=(*SEARCH, "rejson.so"))
        redis = given or closing.enter_context(stack).url
        for name in ELSEWHERE:
            try:
                found.update(elsewhere(name, redis))
            except FileNotFoundError:
                left_out[name] = "its environment is not installed"
            except subprocess.CalledProcessError as error:
                left_out[name] = f"it did not run: {error.stderr.strip().splitlines()[-1]}"
    save("identity", where, same=list(SAME), found=found)
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    told = table(found, left_out)
    PAGE.write_text(f"{head}{BEGIN}\n\n{told}\n\n{END}{tail}")
    print(told)


def serve(name: str, redis: str) -> None:
    """Ask one peer in this environment, and print what was found as one line of JSON."""
    _, make = ELSEWHERE[name]
    assert make is not None
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    peer = make(redis)
    channel.write(json.dumps({peer.name: peer.found()}) + "\n")
    channel.flush()


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ELSEWHERE:
        serve(*sys.argv[1:])
    else:
        main()
