"""Answer the APIs of OpenAI and Anthropic: from the cache where it can, else by an upstream."""

from shared_core.service.proxy.routes import chat, rest, router

__all__ = ["chat", "rest", "router"]
