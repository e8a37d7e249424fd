"""Puts the chunks of a streamed completion together: choices by their index, texts end to end.

{"choices": [{"index": 0, "delta": {"content": "It "}}]}  --note-->  completion()
{"choices": [{"index": 0, "delta": {"content": "melts."}, "finish_reason": "stop"}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_core.client_response import as_json

_SAID_AGAIN = frozenset({"role", "type", "id", "index", "object"})
"""Fields that a provider may repeat in every chunk; other texts go on."""


class Gathered:
    """What came of a stream so far."""

    def __init__(self) -> None:
        self._choices: dict[int, dict[str, Any]] = {}
        self._model: str | None = None
        self._usage: Any = None

    def note(self, chunk: Any) -> str:
        """Add a chunk and return the text that it adds to the first choice.

        Raises ValueError, TypeError or AttributeError for one that cannot be put together with
        those before it, or tells of an error.
        """
        body = as_json(chunk)
        if body.get("error"):
            raise ValueError("the chunk tells of an error")
        self._model = self._model or body.get("model")
        self._usage = body.get("usage") or self._usage
        for choice in body.get("choices") or ():
            found = self._choices.setdefault(choice.get("index") or 0, {"message": {}})
            more = {name: value for name, value in choice.items() if name not in ("delta", "index")}
            found["message"] = _joined(found["message"], choice.get("delta") or {})
            # why it ends is said once, but some say it again with the usage
            found.update(_joined(found, {**more, "finish_reason": None}))
            found["finish_reason"] = more.get("finish_reason") or found.get("finish_reason")
        return text_of_chunk(body)

    @property
    def is_whole(self) -> bool:
        """Say whether there is a choice, and each said why it ended."""
        reasons = [choice.get("finish_reason") for choice in self._choices.values()]
        return bool(reasons) and None not in reasons

    def completion(self) -> dict[str, Any]:
        """Return the whole as the provider would have given it at once."""
        choices = [_listed(choice) for _, choice in sorted(self._choices.items())]
        return {"model": self._model, "choices": choices, "usage": self._usage}


def text_of_chunk(chunk: Any) -> str:
    """Return the text that a chunk adds to the first choice."""
    return "".join(
        (choice.get("delta") or {}).get("content") or ""
        for choice in as_json(chunk).get("choices") or ()
        if not choice.get("index")
    )


def _joined(old: Any, new: Any) -> Any:
    """Return what two values of one field are together."""
    match old, new:
        case (None, _) | (_, None):
            return _indexed(new) if old is None else old
        case (str(), str()):
            return old + new
        case (Mapping(), Mapping()):
            whole = dict(old)
            for name, value in new.items():
                said_again = name in _SAID_AGAIN and value is not None
                whole[name] = value if said_again else _joined(whole.get(name), value)
            return whole
        case (_Items(), list()):
            return old.plus(new)
        case (list(), list()):
            return [*old, *new]
        case _ if type(old) is type(new):
            return new
    raise TypeError(f"{type(old).__name__} and {type(new).__name__} of one field")


class _Items(dict[int, Any]):
    """A list whose items came with an index, such as tool calls."""

    def plus(self, items: list[Any]) -> _Items:
        whole = _Items(self)
        for item in items:
            place = item["index"]
            whole[place] = _joined(whole.get(place), item)
        return whole


def _indexed(value: Any) -> Any:
    """Prepare a first value for more to come: lists with indexes become what can be joined."""
    if isinstance(value, Mapping):
        return {name: _indexed(item) for name, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        placed = all(isinstance(item.get("index"), int) for item in value)
        return _Items().plus(value) if placed else value
    return value


def _listed(value: Any) -> Any:
    """Undo ``_indexed``."""
    if isinstance(value, _Items):
        items = [_listed(item) for _, item in sorted(value.items())]
        return [{name: part for name, part in item.items() if name != "index"} for item in items]
    if isinstance(value, Mapping):
        return {name: _listed(item) for name, item in value.items()}
    return value
