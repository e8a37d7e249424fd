"""The kinds of ``identity.py``, asked of caches that wrap an OpenAI-style call of their own.

    PEER_PYTHON benchmarks/identity_openai.py litellm

Runs in the environment of the peer, and needs nothing else of ours. Each call goes over HTTP to a
server of this process, which counts what reaches it; prints what was found as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

Keywords = dict[str, Any]
QUESTION = {"role": "user", "content": "How much is in my account?"}


class Provider(BaseHTTPRequestHandler):
    """An OpenAI-compatible API on this machine."""

    calls = 0

    def do_POST(self) -> None:
        Provider.calls += 1
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "100 EUR"}
        choice = {"index": 0, "message": message, "text": "100 EUR", "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
        body = json.dumps({**head, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def pair(first: Keywords, second: Keywords) -> tuple[Keywords, Keywords]:
    return {"messages": [QUESTION], **first}, {"messages": [QUESTION], **second}


def each(name: str, first: Any, second: Any) -> tuple[Keywords, Keywords]:
    return pair({name: first}, {name: second})


def said(*before: Keywords) -> Keywords:
    return {"messages": [*before, QUESTION]}


def schema(**fields: Any) -> type[BaseModel]:
    made: type[BaseModel] = create_model("Account", **fields)
    return made


def tool(name: str) -> list[Keywords]:
    parameters = {"type": "object", "properties": {}}
    return [{"type": "function", "function": {"name": name, "parameters": parameters}}]


def image(address: str) -> Keywords:
    link = {"type": "image_url", "image_url": {"url": address}}
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, link]}]}


def tool_turn(id: str) -> Keywords:
    call = {"id": id, "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    return {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": id, "content": "1"},
        ]
    }


def custom_turn(code: str) -> Keywords:
    call = {"id": "c", "type": "custom", "custom": {"name": "python", "input": code}}
    answer = {"role": "tool", "tool_call_id": "c", "content": "done"}
    return said({"role": "assistant", "content": "", "tool_calls": [call]}, answer)


# ``headers``, ``timeout``, ``tenant`` and ``prompt`` are spelt as each peer has them.
KINDS: dict[str, tuple[Keywords, Keywords]] = {
    "model": each("model", "gpt-4o", "gpt-4o-mini"),
    "`max_tokens`": each("max_tokens", 10, 500),
    "system message": pair(
        said({"role": "system", "content": "a"}), said({"role": "system", "content": "b"})
    ),
    "earlier turn": pair(
        said({"role": "assistant", "content": "a"}), said({"role": "assistant", "content": "b"})
    ),
    "tools": each("tools", tool("read"), tool("write")),
    "image": (image("https://example.org/a.png"), image("https://example.org/b.png")),
    "custom tool call of an earlier turn": (custom_turn("a"), custom_turn("b")),
    "tenant, by the cache's own means": each("tenant", "a", "b"),
    "header of the call (`Authorization` of a user)": each(
        "headers", {"Authorization": "Bearer a"}, {"Authorization": "Bearer b"}
    ),
    "organization": each("organization", "a", "b"),
    "argument of a completion model's call": (
        {"prompt": "q", "max_tokens": 10},
        {"prompt": "q", "max_tokens": 500},
    ),
    "two schemas of one class name": each(
        "response_format", schema(x=(int, 0)), schema(x=(int, 0), y=(int, 0))
    ),
    "the same call": pair({}, {}),
    "another API key": each("api_key", "sk-1", "sk-2"),
    "harmless header (`user-agent`)": each("headers", {"user-agent": "a"}, {"user-agent": "b"}),
    "time limit and retries": each("timeout", 3, 9),
    "ids of tool calls": (tool_turn("call_a"), tool_turn("call_b")),
}


def litellm(address: str, folder: Path) -> tuple[str, Callable[[], Callable[[Keywords], Any]]]:
    """Return LiteLLM with its cache in memory, as ``litellm.cache = Cache()`` has it."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as peer
    from litellm.caching.caching import Cache

    def make() -> Callable[[Keywords], Any]:
        peer.cache = Cache()

        def ask(given: Keywords) -> Any:
            known = {"api_base": address, "api_key": "sk-x", "model": "gpt-4o-mini"} | given
            if "headers" in known:
                known["extra_headers"] = known.pop("headers")
            if "tenant" in known:
                known["cache"] = {"namespace": known.pop("tenant")}
            if "prompt" in known:
                known["model"] = "text-completion-openai/gpt-3.5-turbo-instruct"
                return peer.text_completion(**known)
            known["model"] = f"openai/{known['model']}"
            return peer.completion(**known)

        return ask

    return f"LiteLLM {version('litellm')} Cache", make


def gptcache(address: str, folder: Path) -> tuple[str, Callable[[], Callable[[Keywords], Any]]]:
    """Return GPTCache's adapter for OpenAI, as ``cache.init()`` has it: equal texts only."""
    os.chdir(folder)  # its default store is a file in the working folder
    import gptcache.utils

    # It would run pip inside this process for what it does not find under its own name.
    gptcache.utils._check_library = lambda *_, **__: True
    from gptcache import Config, cache
    from gptcache.adapter import openai
    from gptcache.manager import get_data_manager
    from gptcache.processor.pre import get_prompt, last_content
    from gptcache.session import Session

    number = iter(range(10**6))

    def make() -> Callable[[Keywords], Any]:
        store = get_data_manager(data_path=f"{next(number)}.txt")

        def ask(given: Keywords) -> Any:
            text = get_prompt if "prompt" in given else last_content  # as its pages have it
            # The counter of saved tokens would fetch a vocabulary, over the network.
            settings = Config(enable_token_counter=False)
            cache.init(pre_embedding_func=text, data_manager=store, config=settings)
            known = {"api_base": address, "api_key": "sk-x", "model": "gpt-4o-mini"} | given
            if "timeout" in known:
                known["request_timeout"] = known.pop("timeout")
            if "tenant" in known:
                known["session"] = Session(name=known.pop("tenant"))
            if "response_format" in known:
                shape = known.pop("response_format")
                form = {"name": shape.__name__, "schema": shape.model_json_schema()}
                known["response_format"] = {"type": "json_schema", "json_schema": form}
            if "prompt" in known:
                return openai.Completion.create(**known)
            return openai.ChatCompletion.create(**known)

        return ask

    return f"GPTCache {version('gptcache')} openai adapter", make


def shares(
    two: tuple[Keywords, Keywords], make: Callable[[], Callable[[Keywords], Any]]
) -> bool | str:
    """Tell what ``Peer.shares`` of ``identity.py`` tells, of a peer that is asked in keywords."""

    def reached(*calls: Keywords) -> int:
        ask, before = make(), Provider.calls
        for call in calls:
            ask(dict(call))
        return Provider.calls - before

    first, second = two
    try:
        if reached(first, second) == 1:
            return True
        return False if reached(first, first) == 1 else "not kept"
    except Exception as error:  # of a peer, which the page says
        return f"fails: {type(error).__name__}: {str(error).splitlines()[0][:90]}"


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        address = f"http://127.0.0.1:{server.server_port}/v1"
        peer = {"litellm": litellm, "gptcache-openai": gptcache}[sys.argv[1]]
        name, make = peer(address, Path(folder))
        found = {kind: shares(two, make) for kind, two in KINDS.items()}
    channel.write(json.dumps({name: found}) + "\n")
    channel.flush()


if __name__ == "__main__":
    main()
