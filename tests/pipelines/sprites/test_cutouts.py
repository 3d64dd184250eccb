from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.sprites.cutouts import cut_out


def members(image: np.ndarray, **extra: bytes) -> dict[str, bytes]:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "PNG")
    return {"png": sink.getvalue(), "txt": b"a thing", **extra}


@pytest.fixture
def ring() -> np.ndarray:
    image = np.full((64, 64, 3), 255, np.uint8)
    cv2.circle(image, (30, 34), 20, (200, 30, 30), -1)
    cv2.circle(image, (30, 34), 8, (255, 255, 255), -1)
    return image


def test_the_ground_is_cut_away_and_white_inside_is_kept(ring):
    sprite = cut_out(members(ring, json=json.dumps({"group": "rings"}).encode()))
    assert (sprite.name, sprite.group) == ("a thing", "rings")
    height, width = sprite.pixels.shape[:2]
    assert abs(height - 41) <= 2
    assert abs(width - 41) <= 2
    assert sprite.pixels[0, 0].tolist() == [0, 0, 0, 0]
    assert sprite.pixels[height // 2, width // 2].tolist() == [255] * 4
    assert sprite.pixels[height // 2, 6].tolist() == [200, 30, 30, 255]


def test_colours_are_no_brighter_than_their_alpha(ring):
    pixels = cut_out(members(ring)).pixels.astype(int)
    assert (pixels[..., :3] <= pixels[..., 3:]).all()


def test_a_picture_with_alpha_is_cut_by_it(ring):
    alpha = np.where((ring == 255).all(axis=2), 0, 255).astype(np.uint8)
    sprite = cut_out(members(np.dstack([ring // 2, alpha])))
    assert sprite.pixels[0, 0, 3] == 0
    assert sprite.pixels[20, 6].tolist() == [100, 15, 15, 255]


def test_without_a_group_it_has_none(ring):
    assert cut_out(members(ring)).group == ""


def test_pictures_without_a_sprite_are_passed_over(ring):
    blank = np.full((64, 64, 3), 255, np.uint8)
    thin = blank.copy()
    cv2.line(thin, (5, 5), (60, 60), (0, 0, 0), 4)
    assert cut_out(members(blank)) is None
    assert cut_out(members(thin)) is None
    assert cut_out({"png": b"broken", "txt": b"a thing"}) is None
    assert cut_out({"txt": b"a thing"}) is None
    assert cut_out({"png": members(ring)["png"]}) is None
