"""Frozen configs that refuse unknown keys, and errors that name the path and the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.core.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every config: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the rest of an error message: the closest valid name, or all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(names) or 'none'}"


def validate(model: type[C], data: Mapping[str, Any], where: str) -> C:
    """Build a config from plain data.

    Args:
        model: The config class.
        data: Plain data, as read from YAML.
        where: The file or option the data came from, for the message.

    Raises:
        ConfigError: One line with the path of the first fault and the nearest valid name.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(model, error)}") from None


def load_yaml(text: str, where: str) -> dict[str, Any]:
    """Parse a YAML mapping.

    Raises:
        ConfigError: Not YAML, or not a mapping.
    """
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date 2024-13-45; [[[[...
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise ConfigError(f"{where}: not valid YAML{line}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected keys and values, found {type(data).__name__}")
    return data


def _explain(model: type[Config], error: ValidationError) -> str:
    faults = error.errors()
    unknown = [fault for fault in faults if fault["type"] == "extra_forbidden"]
    fault = unknown[0] if unknown else faults[0]
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        return f"{path}: unknown key; {nearest(name, _fields_at(model, fault['loc'][:-1]))}"
    cause = fault.get("ctx", {}).get("error")
    message = str(cause) if isinstance(cause, Exception) else fault["msg"]
    # A nested family config explains itself relative to its own place.
    if isinstance(cause, FaultAt):
        path = ".".join(part for part in (path, cause.path) if part)
    return f"{path}: {message}" if path else message


class FaultAt(ValueError):
    """A fault inside a nested config, with its path relative to that config."""

    def __init__(self, path: str, message: str):
        super().__init__(message)
        self.path = path


def fault_at(model: type[Config], error: ValidationError) -> FaultAt:
    """Turn a nested model's first fault into an error that keeps its path."""
    path, _, message = _explain(model, error).partition(": ")
    return FaultAt(path, message) if message else FaultAt("", path)


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    current: type[BaseModel] | None = model
    for part in loc:
        field = current.model_fields.get(str(part)) if current else None
        if isinstance(part, int) or field is None:
            continue
        current = next(iter(_models_in(field.annotation)), None)
    return list(current.model_fields) if current else []


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
