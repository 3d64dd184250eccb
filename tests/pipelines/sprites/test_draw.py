from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.sprites.draw import KEY, draw_frames, draw_ground, plant_keyframes

WHITE = np.full((40, 40, 4), 255, np.uint8)


def draw(places: list[tuple[float, float]], size: int = 64, radius: float = 0.15) -> np.ndarray:
    ground = np.zeros((size, size, 3), np.uint8)
    return draw_frames(ground, [WHITE], [radius], np.array(places)[:, None])


def centre(frame: np.ndarray) -> np.ndarray:
    weights = frame[..., 0].astype(float)
    grid = np.arange(len(frame)) + 0.5
    return np.array([weights.sum(0) @ grid, weights.sum(1) @ grid]) / weights.sum() / len(frame)


@pytest.mark.parametrize("size", [48, 64, 101])
def test_a_sprite_is_where_it_shall_be_to_a_fraction_of_a_pixel(size):
    places = [(0.5, 0.5), (0.503, 0.5), (0.35, 0.711)]
    for frame, place in zip(draw(places, size), places, strict=True):
        assert np.abs(centre(frame) - place).max() * size < 0.1
        assert np.sqrt(frame[..., 0].sum() / 255) == pytest.approx(0.3 * size, abs=1)


def test_what_is_outside_is_cut_off_and_what_is_beyond_is_not_drawn():
    half, beyond = draw([(0.0, 0.5), (-0.4, 0.5)])
    whole = draw([(0.5, 0.5)])[0]
    assert half.sum() == pytest.approx(whole.sum() / 2, rel=0.06)
    assert not beyond.any()


def test_blending_follows_the_definition():
    ground = np.full((64, 64, 3), 100, np.uint8)
    sprite = np.zeros((20, 20, 4), np.uint8)
    sprite[:] = (30, 60, 90, 128)  # colours times alpha
    frame = draw_frames(ground, [sprite], [10 / 64], np.array([[[0.5, 0.5]]]))[0]
    expected = np.array([30, 60, 90]) + 100 * (1 - 128 / 255)
    assert np.abs(frame[32, 32] - expected).max() <= 0.5


def test_later_sprites_are_in_front():
    red, blue = WHITE.copy(), WHITE.copy()
    red[..., 1:3], blue[..., :2] = 0, 0
    ground = np.zeros((64, 64, 3), np.uint8)
    places = np.full((1, 2, 2), 0.5)
    frame = draw_frames(ground, [red, blue], [0.2, 0.1], places)[0]
    assert frame[32, 32].tolist() == [0, 0, 255]
    assert frame[32, 22].tolist() == [255, 0, 0]


def test_the_ground_is_a_texture_of_its_own_for_every_seed():
    grounds = [draw_ground(np.random.default_rng(seed), 64) for seed in range(20)]
    assert len({ground.tobytes() for ground in grounds}) == 20
    for ground in grounds:
        assert ground.std(axis=(0, 1)).max() > 5
        assert 0 < ground.mean() < 255


def test_planted_key_frames_are_sharp_and_what_follows_them_is_not():
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8), 2 * KEY, axis=0)
    original = frames[0].copy()
    plant_keyframes(frames)
    assert np.array_equal(frames[0], original)
    assert np.array_equal(frames[KEY], original)
    sharp = [cv2.Laplacian(frame.astype(np.float32), cv2.CV_32F).std() for frame in frames]
    drops = np.diff(sharp)
    assert (drops[: KEY - 1] <= 0).all()  # the first blurs are too narrow to change anything
    assert (drops[KEY // 4 : KEY - 1] < 0).all()
    assert drops[KEY - 1] > 0
    assert sharp[KEY - 1] < 0.5 * sharp[0]
