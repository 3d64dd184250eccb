"""Contracts of the data plane; imports nothing else of the project.

``pipelines.core.batch`` and ``pipelines.core.randomness`` are imported by
name where they are needed: they need torch, which a reader process does not.
"""

from pipelines.core.config import Config, load_yaml, nearest, validate
from pipelines.core.errors import ConfigError, DataError, OutageError, StorageError, UserError
from pipelines.core.family import Family, Member, discover

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "Family",
    "Member",
    "OutageError",
    "StorageError",
    "UserError",
    "discover",
    "load_yaml",
    "nearest",
    "validate",
]
