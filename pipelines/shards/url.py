"""URLs in configs, which are logged and kept: none may hold a credential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel

from pipelines.shards.storage_secrets import refuse_secrets


def _kept(url: str) -> str:
    refuse_secrets(url)
    return url


Url = Annotated[str, AfterValidator(_kept)]
"""A URL, or a pattern of URLs, that any log may show."""


def urls_in(config: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Find every ``Url`` of a config and of those in it.

    Yields:
        Its path, such as ``data.source.url``, and its value.
    """
    if isinstance(config, BaseModel):
        for name, field in type(config).model_fields.items():
            value, place = getattr(config, name), f"{path}.{name}".lstrip(".")
            if isinstance(value, str):
                if any(isinstance(m, AfterValidator) and m.func is _kept for m in field.metadata):
                    yield place, value
            else:
                yield from urls_in(value, place)
    elif isinstance(config, Mapping):
        for name, value in config.items():
            yield from urls_in(value, f"{path}.{name}")
    elif isinstance(config, (list, tuple)):
        for number, value in enumerate(config):
            yield from urls_in(value, f"{path}.{number}")
