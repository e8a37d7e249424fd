"""Send marked prompts through the SDKs of Gemini and Bedrock, over a transport that only looks.

    python -m venv sdks && sdks/bin/pip install -e . google-genai boto3
    sdks/bin/python benchmarks/provider_bodies.py

In an environment of their own: google-genai 3.4 wants an older tenacity, botocore 1.44 an older
python-dateutil, than the rest of the project is tested with. The SDKs check the bodies, botocore
against the service's model; what they send is compared with what is meant, and the token counts of
their answers are read back. (Those of OpenAI and Anthropic are in the tests.)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core import mark
from shared_core.usage import tokens_of

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
HANDBOOK = "Every loan ends after four weeks and can be renewed twice. " * 200
SYSTEM = {
    "role": "system",
    "content": [
        {"type": "text", "text": "Today is Monday.", "dynamic": True},
        {"type": "text", "text": HANDBOOK},
    ],
}
TURNS = [
    {"role": "user", "content": "How long is a loan?"},
    {"role": "assistant", "content": "Four weeks."},
    {"role": "user", "content": "How often is it renewed?"},
]
TOOL = {
    "toolSpec": {
        "name": "loans",
        "description": HANDBOOK,
        "inputSchema": {"json": {"type": "object"}},
    }
}


class Body:
    """A response's body as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._content


def bedrock() -> None:
    import botocore
    import botocore.awsrequest
    import botocore.session

    session = botocore.session.get_session()
    session.set_credentials("nobody", "nothing")
    client = session.create_client("bedrock-runtime", region_name="us-east-1")
    bodies: list[dict[str, Any]] = []
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Twice."}]}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": 100,
            "outputTokens": 5,
            "totalTokens": 2805,
            "cacheReadInputTokens": 2000,
            "cacheWriteInputTokens": 700,
        },
        "metrics": {"latencyMs": 5},
    }

    def send(request: Any, **_: Any) -> Any:
        bodies.append(json.loads(request.body))
        headers = {"content-type": "application/json"}
        body = Body(json.dumps(answer).encode())
        return botocore.awsrequest.AWSResponse(request.url, 200, headers, body)

    client.meta.events.register("before-send.bedrock-runtime.Converse", send)
    marked = mark([SYSTEM, *TURNS], "bedrock", model=CLAUDE, tools=[TOOL], ttl="1h")
    told = client.converse(modelId=CLAUDE, **marked.body())
    hour, minutes = ({"cachePoint": {"type": "default", **more}} for more in ({"ttl": "1h"}, {}))
    (sent,) = bodies
    assert sent["system"] == [{"text": HANDBOOK}, hour, {"text": "Today is Monday."}]
    assert sent["toolConfig"]["tools"] == [TOOL, hour]
    assert [message["content"][-1] for message in sent["messages"]] == [
        minutes,
        {"text": "Four weeks."},
        minutes,
    ]
    assert tokens_of(told) == {
        "input_tokens": 2800,
        "output_tokens": 5,
        "total_tokens": 2805,
        "cached_tokens": 2000,
        "cache_write_tokens": 700,
    }
    print(f"botocore {botocore.__version__}: cachePoint after system, tools and turns is accepted")


def gemini() -> None:
    import httpx
    from google import genai
    from google.genai import types

    bodies: list[dict[str, Any]] = []
    answer = {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Twice."}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {
            "promptTokenCount": 2800,
            "cachedContentTokenCount": 2000,
            "candidatesTokenCount": 5,
            "totalTokenCount": 2805,
        },
    }

    def send(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=answer)

    transport = httpx.Client(transport=httpx.MockTransport(send))
    client = genai.Client(api_key="none", http_options=types.HttpOptions(httpx_client=transport))
    static = {"role": "system", "content": HANDBOOK}
    marked = mark([static, *TURNS], "gemini", cached_content="cachedContents/handbook")
    told = client.models.generate_content(model="gemini-2.5-flash", **marked.body())
    client.models.generate_content(
        model="gemini-2.5-flash", **mark([SYSTEM, *TURNS], "gemini").body()
    )
    named, whole = bodies
    assert named["cachedContent"] == "cachedContents/handbook"
    assert "systemInstruction" not in named
    assert [turn["role"] for turn in named["contents"]] == ["user", "model", "user"]
    texts = [part["text"] for part in whole["systemInstruction"]["parts"]]
    assert texts == [HANDBOOK, "Today is Monday."]
    counts = tokens_of(told)
    assert counts is not None
    assert (counts["input_tokens"], counts["cached_tokens"]) == (2800, 2000)
    print(f"google-genai {genai.__version__}: cachedContent is sent, without what it holds")


if __name__ == "__main__":
    bedrock()
    gemini()
