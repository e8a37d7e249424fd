"""A policy as a JSON text, so that what was tuned in one place is used in another."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from shared_core.thresholds import Feedback, Static, Verified
from shared_core.thresholds.prior import Prior

FORMAT = "tiered-llm-cache policy 1"
KINDS = {"static": Static, "feedback": Feedback, "verified": Verified}


def policy_to_json(policy: Static | Feedback | Verified, **about: object) -> str:
    """Spell a policy; ``about`` is kept with it for people to read, and not read back."""
    name = next(name for name, kind in KINDS.items() if isinstance(policy, kind))
    options = {one.name: getattr(policy, one.name) for one in fields(policy)}
    if isinstance(prior := options.get("prior"), Prior):
        options["prior"] = json.loads(prior.to_json())
    body = {"format": FORMAT, "policy": name, "options": options, "about": about}
    return json.dumps(body, indent=1) + "\n"


def policy_from_json(text: str) -> Static | Feedback | Verified:
    """Read a policy that ``policy_to_json`` spelled.

    >>> policy_from_json(policy_to_json(Static(0.9)))
    Static(similarity=0.9)

    Raises ValueError for any other text.
    """
    body = json.loads(text)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ValueError(f"this is no policy: its format must be {FORMAT!r}")
    kind, options = KINDS.get(body.get("policy", "")), body.get("options")
    if kind is None or not isinstance(options, dict):
        raise ValueError(f"the policy {body.get('policy')!r} is not known; known are {[*KINDS]}")
    chosen: dict[str, Any] = dict(options)
    if chosen.get("prior") is not None:
        chosen["prior"] = Prior.from_json(json.dumps(chosen["prior"]))
    try:
        made: Static | Feedback | Verified = kind(**chosen)
    except TypeError as error:
        raise ValueError(f"the options of the policy are not understood: {error}") from None
    return made
