from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.core import Config, DataError, UserError
from trainers.core.fakes import FakeEncoders, FakeLoad, fake_data

DATA = fake_data(20, concepts=4)


def test_outputs_have_the_contract_shapes():
    model = FakeEncoders(DATA, dimensions=16)
    for found in (model.embed_images(DATA.images), model.embed_texts(DATA.texts["txt"])):
        assert found.shape == (20, 16)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.norm(dim=1), torch.ones(20))
    assert model.features(DATA.images).shape == (20, 16)
    assert model.features(DATA.images).dtype == torch.float32


def test_a_full_signal_puts_pictures_on_their_captions():
    model = FakeEncoders(DATA)
    torch.testing.assert_close(
        model.embed_images(DATA.images), model.embed_texts(DATA.texts["txt"])
    )


def test_no_signal_knows_nothing():
    model = FakeEncoders(DATA, signal=0)
    cosines = model.embed_images(DATA.images) @ model.embed_texts(DATA.texts["txt"]).T
    assert cosines.abs().max() < 0.6
    own = model.embed_images(DATA.images) @ model.embed_images(DATA.images).T
    assert (own - torch.eye(20)).abs().max() < 0.6


def test_more_signal_is_nearer():
    near = []
    for signal in (0.0, 0.3, 0.6, 1.0):
        model = FakeEncoders(DATA, signal=signal)
        pairs = model.embed_images(DATA.images) * model.embed_texts(DATA.texts["txt"])
        near.append(float(pairs.sum(1).mean()))
    assert near == sorted(near)


def test_prompts_find_the_caption_in_them_and_longer_ones_first():
    data = fake_data(24, concepts=12)  # 'concept 1' is inside 'concept 11'
    model = FakeEncoders(data)
    plain = model.embed_texts(["concept 1", "concept 11"])
    prompted = model.embed_texts(["a picture of concept 1", "a picture of concept 11"])
    assert torch.equal(plain, prompted)
    assert not torch.allclose(plain[0], plain[1])


def test_the_same_in_every_process_and_other_by_seed():
    found = FakeEncoders(DATA, dimensions=3).embed_texts(["concept 0"])[0]
    expected = torch.tensor([-0.0322, 0.1381, -0.9899])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    other = FakeEncoders(DATA, dimensions=3, seed=1).embed_texts(["concept 0"])[0]
    assert not torch.allclose(found, other)


def test_unknown_pictures_follow_their_mean_colour():
    model = FakeEncoders()
    levels = np.array([(255, 0, 0), (250, 5, 5), (0, 0, 255), (128, 128, 128)], dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, :], (4, 3, 3, 3))
    red, reddish, blue, _ = found = model.embed_images(images)
    assert red @ reddish > red @ blue
    assert torch.isfinite(found).all()


def test_without_a_joint_space_only_features_work():
    model = FakeEncoders(DATA, joint=False)
    assert len(model.features(DATA.images)) == 20
    with pytest.raises(UserError, match="joint space"):
        model.embed_images(DATA.images)
    with pytest.raises(UserError, match="text tower"):
        model.embed_texts(["a"])


def test_load_serves_fields_by_name_as_the_real_one_does():
    load = FakeLoad({"here": DATA})
    found = load("here", {"label": "json.group"})
    assert found.texts == {"label": DATA.texts["json.group"]}
    assert found.images is DATA.images
    assert found.masks is DATA.masks
    with pytest.raises(DataError, match="no such data"):
        load("elsewhere", {})
    with pytest.raises(DataError, match=r"no member 'json\.no'"):
        load("here", {"label": "json.no"})


def test_load_serves_texts_of_all_and_images_of_those_that_are_readable():
    broken = DATA.keys[1]
    load = FakeLoad({"here": DATA}, [broken])
    assert list(load.texts("here", {"caption": "txt"}).keys) == list(DATA.keys)
    assert list(load("here", {}).keys) == [key for key in DATA.keys if key != broken]
    data, numbers = load.some("here", {"caption": "txt"}, [2, 1, 0])
    assert list(numbers) == [2, 0]
    assert data.texts["caption"] == [DATA.texts["txt"][2], DATA.texts["txt"][0]]


def test_data_take_turns_and_seeds_share_no_pictures():
    assert DATA.texts["txt"][:5] == [f"concept {i}" for i in (0, 1, 2, 3, 0)]
    assert set(DATA.texts["json.group"]) == {"group 0", "group 1"}
    other = fake_data(20, concepts=4, seed=1)
    assert other.texts == DATA.texts
    assert not set(other.keys) & set(DATA.keys)
    assert not {image.tobytes() for image in other.images} & {i.tobytes() for i in DATA.images}


def test_a_task_is_known_as_far_as_the_signal_goes() -> None:
    for signal, right in ((0.0, 25), (0.2, 40), (1.0, 100)):
        found = FakeEncoders(signal=signal).proxy(Config(), 100, 0)
        assert (found.right, found.examples, found.chance) == (right, 100, 0.25)
