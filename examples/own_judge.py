"""A judge of one's own: answers that are JSON say the same if their values are equal.

    python examples/own_judge.py

A judge is given the fresh answer and the cached one and says True, False, or None if it does not
know. What it says labels the candidates that a policy explores. ``shared_core.testing`` has a suite
for judges of prose.
"""

from __future__ import annotations

import json

from shared_core import Answer, ResponseCache
from shared_core.learning import same_answer


def same_json(fresh: Answer, cached: Answer) -> bool | None:
    """Compare two JSON objects by value, and anything else by its words."""
    try:
        one, other = json.loads(fresh.text), json.loads(cached.text)
    except ValueError:
        return same_answer(fresh, cached)
    return bool(one == other)


def main() -> None:
    """Judge three pairs, and open a cache that learns by this judge."""
    pairs = [
        ('{"city": "Oslo", "days": 3}', '{"days": 3, "city": "Oslo"}'),
        ('{"city": "Oslo", "days": 3}', '{"city": "Oslo", "days": 4}'),
        ("Three days in Oslo.", "three days in Oslo"),
    ]
    for fresh, old in pairs:
        print(f"{fresh:30} {old:30} {same_json(Answer(fresh), Answer(old))}")
    ResponseCache.open(judge=same_json).close()


if __name__ == "__main__":
    main()
