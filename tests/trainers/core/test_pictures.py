from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from trainers.core.pictures import png


def test_a_picture_comes_back_with_its_colours() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = base64.b64decode(png(image), validate=True)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
