"""What a request's headers say of the cache: whether to look, to keep, how long, under what tags.

cache-control: no-cache | no-store | max-age=60     x-tiered-cache-tags: a, b     -ttl: 3600
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared_core.control import Controls
from shared_core.service.refusals import Refusal

if TYPE_CHECKING:
    from starlette.datastructures import Headers

TAGS_HEADER, TTL_HEADER = "x-tiered-cache-tags", "x-tiered-cache-ttl"

TAG = r"[!-+\--~]{1,64}"
"""Printable ASCII but the comma: what a header carries unchanged."""

MOST_TAGS = 16
LONGEST_TTL_S = 10**9

_TAGS = re.compile(rf"{TAG}( ?, ?{TAG}){{0,{MOST_TAGS - 1}}}")
_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")
_SECONDS = re.compile(r"[0-9]{1,10}")


def controls_for(headers: Headers, namespace: str) -> Controls:
    """Read the headers that say what one request wants. Raises Refusal 400 for a senseless one."""
    read = write = True
    max_age: float | None = None
    for directive in ",".join(headers.getlist("cache-control")).split(","):
        name, _, value = directive.strip().lower().partition("=")
        if name == "no-cache":
            read = False
        elif name == "no-store":
            write = False
        elif name == "max-age":
            if not _SECONDS.fullmatch(value):
                raise _senseless("cache-control", "max-age must be whole seconds: max-age=60")
            max_age = float(value)
    tags = _tags(headers.get(TAGS_HEADER))
    return Controls(read, write, _ttl(headers.get(TTL_HEADER)), tags, namespace, max_age)


def _tags(value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if not _TAGS.fullmatch(value):
        rule = f"must be 1 to {MOST_TAGS} tags of 1 to 64 letters of ASCII: prices, shop-7"
        raise _senseless(TAGS_HEADER, rule)
    return tuple(dict.fromkeys(tag.strip() for tag in value.split(",")))


def _ttl(value: str | None) -> float | None:
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or not 0 < float(value) <= LONGEST_TTL_S:
        raise _senseless(TTL_HEADER, f"must be seconds above 0, at most {LONGEST_TTL_S}: 3600")
    return float(value)


def _senseless(name: str, rule: str) -> Refusal:
    return Refusal(400, f"{name}: {rule}", code="bad_header", param=name)
