"""The callback handler that notes each chat model call as it starts and forgets it as it ends."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from langchain_tiered_cache.runs import Run, ended, started


class RunWatcher(BaseCallbackHandler):
    """Notes runs in a context variable: inline, or asynchronous calls would note them elsewhere."""

    run_inline = True
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the run; its messages are not kept."""
        params = kwargs.get("invocation_params") or {}
        started(Run(run_id, params, serialized or {}, metadata or {}))

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        ended(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        ended(run_id)
