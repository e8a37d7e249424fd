"""Answer OpenAI's endpoints: from the cache where it can, else by the upstream."""

from shared_core.service.proxy.routes import rest, router

__all__ = ["rest", "router"]
