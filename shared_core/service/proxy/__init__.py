"""Answer OpenAI's endpoints: from the cache where it can, else by the upstream."""

from shared_core.service.proxy.routes import chat, rest, router

__all__ = ["chat", "rest", "router"]
