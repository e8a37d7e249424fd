"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "absent", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and the command that mends it.

    "missing" means that the cache will not do what it is for.
    """

    level: Level
    text: str
    remedy: str | None = None
