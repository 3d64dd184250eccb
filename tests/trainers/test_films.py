from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.core import DataError, UserError
from pipelines.sources.sprites import Sprites
from pipelines.sources.webdataset import WebDataset
from tests.trainers.conftest import SMALL_TOWERS, small_recipe
from trainers.model import Model, build_objective

FILMS = Sprites.Config(
    samples=5, size=16, frames=6, seed=3, pictures="eagleray://emoji/emoji-unseen-*.tar"
)
DECODE = {"size": None, "video": {"frames": 6, "rate": 16, "size": 16, "sampling": "start"}}


def model(fallback: str | None = None, **objective: object) -> Model:
    recipe = small_recipe(
        tokenizer=None,
        data={"source": {"kind": "sprites", "samples": 8, "size": 16}, "decode": DECODE},
        objective={"video": SMALL_TOWERS["video"], **objective},
    )
    return Model(build_objective(recipe, None), recipe, None, fallback=fallback)


def test_films_are_cut_as_in_training_and_not_augmented() -> None:
    contrast = model(kind="clip_contrast", frames=6, stride=1)
    features, labels = contrast.films(FILMS, "json.scene", 8)
    assert features.shape == (5, 16)
    assert set(labels) == {"fall", "slide"}
    # Of all frames there is one cut: neither the seed nor an augmentation can change it.
    other = model(kind="clip_contrast", frames=6, stride=1, augmentation={"kind": "none"})
    again, same = other.films(FILMS, "json.scene", 8)
    torch.testing.assert_close(again, features)
    assert same == labels
    assert features.std(0).max() > 0


def test_fewer_films_are_the_first_of_an_order() -> None:
    few, labels = model(kind="clip_contrast", frames=4, stride=1).films(FILMS, "json.scene", 3)
    assert few.shape == (3, 16)
    assert len(labels) == 3


def test_a_missing_field_and_a_missing_tower_are_told() -> None:
    with pytest.raises(UserError, match=r"none readable; .* no value 'nothing'"):
        model(kind="clip_contrast", frames=6, stride=1).films(FILMS, "json.nothing", 8)
    recipe = small_recipe(objective={"kind": "rotation", "image": SMALL_TOWERS["image"]})
    picture = Model(build_objective(recipe, None), recipe, None)
    with pytest.raises(UserError, match="has no video tower"):
        picture.films(FILMS, "json.scene", 8)


def filmed(count: int) -> dict[str, dict[str, bytes]]:
    films = Sprites(FILMS.model_copy(update={"samples": count, "tracks": "pictures"}))
    return {raw.key: dict(raw.members) for raw in films.read(np.arange(count))}


@pytest.mark.parametrize(
    ("member", "data", "reason"),
    [("json", b"{}", "member 'json' has no value 'scene'"), ("mov", b"torn", "00000003")],
)
def test_films_of_which_much_cannot_be_used_are_refused(
    tmp_path: Path, make_tar, member: str, data: bytes, reason: str
) -> None:
    made = filmed(8)
    contrast = model(kind="clip_contrast", frames=6, stride=1)
    url = str(make_tar(tmp_path / "whole.tar", made))
    assert len(contrast.films(WebDataset.Config(url=url), "json.scene", 8)[1]) == 8
    made["00000003"][member] = data
    url = str(make_tar(tmp_path / "a.tar", made))
    with pytest.raises(DataError) as caught:
        contrast.films(WebDataset.Config(url=url), "json.scene", 8)
    begin = "1 of 8 samples are broken or lack what is asked for; the first is 00000003 of "
    assert str(caught.value).startswith(f"{begin}{url}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_films_of_a_damaged_tar_are_refused(tmp_path: Path, make_tar) -> None:
    path = make_tar(tmp_path / "a.tar", filmed(4))
    path.write_bytes(path.read_bytes()[:-8000])
    with pytest.raises(DataError, match=r"a\.tar: it is damaged \(.*\), and what it holds"):
        model(kind="clip_contrast", frames=6, stride=1).films(
            WebDataset.Config(url=str(path)), "json.scene", 8
        )


def test_read_only_films_are_scanned_once_for_all_commits_of_a_run(
    tmp_path: Path, make_tar, scanned: list[str]
) -> None:
    data = WebDataset.Config(url=str(make_tar(tmp_path / "a.tar", filmed(8))))
    scanned.clear()  # of pictures that the films were made of
    for _ in range(2):
        contrast = model(str(tmp_path / "run"), kind="clip_contrast", frames=6, stride=1)
        assert len(contrast.films(data, "json.scene", 8)[1]) == 8
    assert scanned == [data.url]
