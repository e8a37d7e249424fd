"""The callback handler that notes each model call as it starts and as it ends."""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from langchain_tiered_cache import asking
from langchain_tiered_cache.frames import tracers_beside
from langchain_tiered_cache.runs import Run, ended, started


class RunWatcher(BaseCallbackHandler):
    """Notes runs in a context variable: inline, or asynchronous calls would note them elsewhere."""

    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Tell whether to be called in the task of the model call: yes, but where that does harm.

        ``AsyncCallbackManager.on_llm_start`` calls no other handler as soon as one is inline, so
        there this one is not; its caller calls it in the same task all the same.
        """
        caller = sys._getframe(1)
        if caller.f_code.co_name == "<listcomp>" and caller.f_back is not None:
            caller = caller.f_back
        return caller.f_code.co_name != "on_llm_start"

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
        lookups, parent = kwargs.get("batch_size", 1), kwargs.get("parent_run_id")
        run = Run(run_id, params, serialized or {}, metadata or {}, lookups, parent)
        if lookups == 1:  # of several, nobody knows whose lookup is whose
            run.tracers = tracers_beside()
        started(run)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note that a completion model is called for prompts that were looked up just before."""
        for prompt in prompts:
            run = Run(run_id, {}, {}, metadata or {}, parent=kwargs.get("parent_run_id"))
            asking.called(prompt, run)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note the end of a chat run; a completion is stored after this, and over by then."""
        ended(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Note the end of a run."""
        ended(run_id)
        asking.failed(run_id)
