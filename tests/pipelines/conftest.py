"""Builders that the tests of the data plane share."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image


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
