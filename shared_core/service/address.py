"""Addresses: whether others can reach them, and how they are shown."""

from __future__ import annotations

import ipaddress
import re


def is_loopback(host: str) -> bool:
    """Say whether an address or name is that of this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
