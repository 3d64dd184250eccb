"""The folder is the registry: a family is a package, a member is one file in it.

A member file defines one class whose nested ``Config`` belongs to it, and
whose name in a recipe (``kind``) is the file's name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import core_schema

from pipelines.core.config import Config, FaultAt, fault_at, nearest
from pipelines.core.errors import ConfigError


@dataclass(frozen=True)
class Member:
    """One file of a family."""

    name: str
    cls: type[Any]

    @property
    def config(self) -> type[Config]:
        """The nested config class."""
        config: type[Config] = self.cls.Config
        return config

    @property
    def summary(self) -> str:
        """First line of the class's docstring."""
        return (self.cls.__doc__ or "").strip().splitlines()[0]


@cache
def discover(package: str) -> Mapping[str, Member]:
    """Walk a package and return its members by name.

    Args:
        package: Dotted name, for example ``trainers.objectives``.

    Raises:
        ConfigError: A file without exactly one class that has a nested ``Config``.
    """
    module = importlib.import_module(package)
    members = {}
    for info in pkgutil.iter_modules(module.__path__):
        if info.name.startswith("_"):
            continue
        members[info.name] = _member(package, info.name)
    return members


def _member(package: str, name: str) -> Member:
    module = importlib.import_module(f"{package}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and isinstance(getattr(value, "Config", None), type)
        and not issubclass(value, Config)
    ]
    if len(found) != 1:
        raise ConfigError(
            f"{package}/{name}.py: needs exactly one class with a nested Config, has {len(found)}"
        )
    return Member(name, found[0])


class Family:
    """A package of interchangeable members, chosen in a recipe by ``kind``."""

    def __init__(self, package: str):
        self.package = package

    def __iter__(self) -> Iterator[Member]:
        return iter(discover(self.package).values())

    def names(self) -> list[str]:
        """Names of all members, sorted."""
        return sorted(info.name for info in self._modules())

    def get(self, kind: str) -> Member:
        """Find a member, importing only its own file.

        Raises:
            ConfigError: No such member; the message has the nearest name.
        """
        if kind not in self.names():
            raise ConfigError(f"unknown kind '{kind}'; {nearest(kind, self.names())}")
        return _member(self.package, kind)

    def parse(self, data: Any) -> Config:
        """Build a member's config from a mapping with ``kind``."""
        if isinstance(data, Config):
            return data
        if not isinstance(data, Mapping) or not isinstance(data.get("kind"), str):
            raise FaultAt("kind", f"needs a kind; {nearest('', self.names())}")
        options = {key: value for key, value in data.items() if key != "kind"}
        try:
            member = self.get(data["kind"])
        except ConfigError as error:
            raise FaultAt("kind", str(error)) from None
        try:
            return member.config.model_validate(options)
        except ValidationError as error:
            raise fault_at(member.config, error) from None

    def kind_of(self, config: Config) -> str:
        """Name of the member a config belongs to."""
        return type(config).__module__.rpartition(".")[2]

    def dump(self, config: Config) -> dict[str, Any]:
        """Plain data of a member's config, with its ``kind``."""
        return {"kind": self.kind_of(config), **config.model_dump(mode="json")}

    def build(self, config: Config, *args: Any, **kwargs: Any) -> Any:
        """Build the member that a config belongs to: ``cls(config, *args, **kwargs)``."""
        return self.get(self.kind_of(config)).cls(config, *args, **kwargs)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Let ``Annotated[Config, FAMILY]`` be a config field that holds any member's config."""
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(self.dump)
        )

    def _modules(self) -> Iterator[pkgutil.ModuleInfo]:
        module = importlib.import_module(self.package)
        return (i for i in pkgutil.iter_modules(module.__path__) if not i.name.startswith("_"))
