"""URLs in configs, which are logged and kept: none may hold a credential."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from pipelines.shards.storage_secrets import refuse_secrets


def _kept(url: str) -> str:
    refuse_secrets(url)
    return url


Url = Annotated[str, AfterValidator(_kept)]
"""A URL, or a pattern of URLs, that any log may show."""
