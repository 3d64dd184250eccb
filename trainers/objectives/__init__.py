"""Objectives: one file each; the file's name is its ``kind``."""

from pipelines.core import Family

OBJECTIVES = Family("trainers.objectives")

__all__ = ["OBJECTIVES"]
