"""The ``eagleray`` command: one file a subcommand, found in this folder."""

from cluster.cli._main import main

__all__ = ["main"]
