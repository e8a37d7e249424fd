"""Hands on `app` alone: commands and submodules share names."""

from shared_core.cli.main import app

__all__ = [
    "app",
]
