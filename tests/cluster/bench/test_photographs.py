from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from cluster.bench.photographs import draw, jpeg, write_photographs


def test_a_drawn_picture_is_the_size_of_a_photograph() -> None:
    sizes = [len(jpeg(seed)) for seed in range(12)]
    shapes = [draw(seed).shape for seed in range(12)]
    assert all(310 <= height <= 360 and 420 <= width <= 480 for height, width, _ in shapes)
    assert 35_000 < float(np.mean(sizes)) < 60_000
    assert jpeg(3) == jpeg(3)
    assert len(set(sizes)) > 6


def test_pictures_take_turns_in_the_tars(tmp_path: Path) -> None:
    assert write_photographs(tmp_path, 5, distinct=2) == f"{tmp_path}/photographs-*.tar"
    with tarfile.open(tmp_path / "photographs-00000.tar") as tar:
        data = [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
        names = tar.getnames()
    assert names == [f"{number:08d}.jpg" for number in range(5)]
    assert data == [jpeg(0), jpeg(1), jpeg(0), jpeg(1), jpeg(0)]
    assert Image.open(io.BytesIO(data[0])).format == "JPEG"
