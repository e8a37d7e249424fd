"""Hand on ``app``, the command line ``tiered-cache``, alone: commands and modules share names."""

from shared_core.cli.main import app

__all__ = [
    "app",
]
