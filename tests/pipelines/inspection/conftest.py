"""Films and sounds as the decoders' tests make them, and opened data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.sources.webdataset import WebDataset
from tests.pipelines.decode.conftest import film, noise, number_of, sound

__all__ = ["film", "noise", "number_of", "sound"]


@pytest.fixture
def opened_set(tmp_path: Path, make_tar) -> Callable[..., WebDataset]:
    """Open a data set of one tar for each ``{key: {extension: bytes}}``."""

    def make(*shards) -> WebDataset:
        for number, samples in enumerate(shards):
            make_tar(tmp_path / f"a-{number}.tar", samples)
        return WebDataset(WebDataset.Config(url=f"{tmp_path}/a-*.tar"))

    return make
