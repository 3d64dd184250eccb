"""Builders that the tests of the data plane share."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile(
    "pipelines", deadline=None, derandomize=True, database=None, max_examples=60
)
settings.load_profile("pipelines")

Samples = Mapping[str, Mapping[str, bytes]]


def _tar(files: Iterable[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.fixture(scope="session")
def tar_bytes() -> Callable[..., bytes]:
    """(name, data) pairs to the bytes of a tar."""
    return _tar


@pytest.fixture(scope="session")
def make_tar() -> Callable[[Path, Samples], Path]:
    """Write ``{key: {extension: bytes}}`` as a plain tar."""

    def make(path: Path, samples: Samples) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [(f"{key}.{ext}", data) for key, m in samples.items() for ext, data in m.items()]
        path.write_bytes(_tar(files))
        return path

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A noisy picture's bytes: ``picture(seed, width, height, format, **save_options)``."""

    def make(
        seed: int = 0, width: int = 16, height: int = 16, format: str = "PNG", **options: Any
    ) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, format, **options)
        return sink.getvalue()

    return make


@pytest.fixture
def memory() -> Iterator[str]:
    """A fresh folder of fsspec's memory filesystem."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
