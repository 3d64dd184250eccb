"""Trackers: one file each; the file's name is its ``kind``."""

from pipelines.core import Family

TRACKERS = Family("trainers.trackers")

__all__ = ["TRACKERS"]
