"""Contracts of the data plane; imports nothing else of the project."""

from pipelines.core.batch import Batch, IdentityView, ImageView, TextView, ViewSpec
from pipelines.core.config import Config, load_yaml, nearest, validate
from pipelines.core.errors import ConfigError, DataError, StorageError, UserError
from pipelines.core.family import Family, Member, discover

__all__ = [
    "Batch",
    "Config",
    "ConfigError",
    "DataError",
    "Family",
    "IdentityView",
    "ImageView",
    "Member",
    "StorageError",
    "TextView",
    "UserError",
    "ViewSpec",
    "discover",
    "load_yaml",
    "nearest",
    "validate",
]
