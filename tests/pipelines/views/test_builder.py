from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.augment.crop_colour import CropColour
from pipelines.augment.none import Nothing
from pipelines.core import ConfigError
from pipelines.core.randomness import sample_keys
from pipelines.decode.tokenizer import END, PAD, START, Tokenizer, TokenizerConfig
from pipelines.reader import DataConfig, Reader, Share
from pipelines.sources.synthetic import Synthetic
from pipelines.views import IdentityView, ImageView, TextView, ViewBuilder, normalise, pixels
from pipelines.views.text import compose

SIZE = 16
CPU = torch.device("cpu")
PLAIN = ImageView(augmentation=Nothing.Config())
CAPTIONS = ["red circle", "blue square", "red circle", "a"]


def table(count: int = 4, epoch: int = 0, captions: list[str] | None = None) -> pa.Table:
    images = np.random.default_rng(0).integers(0, 256, (count, SIZE * SIZE * 3), dtype=np.uint8)
    return pa.table(
        {
            "epoch": pa.array([epoch] * count, pa.int64()),
            "sample": pa.array(range(count), pa.int64()),
            "fault": pa.array([""] * count),
            "text.caption": pa.array(captions or CAPTIONS[:count]),
            "text.tags": pa.array(["x, y", "", "z", "x"][:count]),
            "image": pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), SIZE**2 * 3),
        }
    )


def raw_images(count: int = 4) -> np.ndarray:
    flat = np.array(table(count)["image"].to_pylist(), dtype=np.uint8)
    return flat.reshape(count, SIZE, SIZE, 3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS * 5, TokenizerConfig(vocabulary=280, length=24))


def build(spec, tokenizer=None, seed=0, size=SIZE) -> ViewBuilder:
    return ViewBuilder(spec, seed, size, tokenizer, CPU)


def keys(count: int, epoch: int = 0, seed: int = 0) -> torch.Tensor:
    samples = torch.arange(count)
    return sample_keys(seed, torch.full_like(samples, epoch), samples)


# --- images -----------------------------------------------------------------------------------


def test_an_image_view_is_the_stored_picture_normalised():
    batch = build({"image": PLAIN})(table())
    assert batch.views["image"].shape == (4, 3, SIZE, SIZE)
    assert batch.views["image"].dtype == torch.float32
    expected = raw_images().transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(batch.views["image"].numpy(), expected, atol=1e-6)
    assert batch.samples.tolist() == [0, 1, 2, 3]
    assert torch.equal(batch.keys, keys(4))


def test_pixels_and_normalise_have_their_ranges():
    stored = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    assert pixels(stored).flatten().tolist() == pytest.approx([0, 128 / 255, 1])
    assert normalise(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]
    given = torch.tensor([0.25])
    normalise(given)
    assert given.item() == 0.25


def test_views_of_one_stream_agree_and_of_two_differ():
    view = CropColour.Config()
    spec = {
        "a": ImageView(augmentation=view, stream=0),
        "b": ImageView(augmentation=view, stream=1),
        "again": ImageView(augmentation=view, stream=0),
    }
    views = build(spec)(table()).views
    assert list(views) == ["a", "b", "again"]
    assert torch.equal(views["a"], views["again"])
    assert (views["a"] - views["b"]).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_one_view_does_not_touch_another():
    spec = {"first": PLAIN, "augmented": ImageView(augmentation=CropColour.Config()), "last": PLAIN}
    views = build(spec)(table()).views
    assert torch.equal(views["first"], views["last"])


def test_a_view_follows_seed_epoch_and_sample():
    spec = {"v": ImageView(augmentation=CropColour.Config())}
    base = build(spec)(table()).views["v"]
    assert torch.equal(build(spec)(table()).views["v"], base)
    assert not torch.allclose(build(spec, seed=1)(table()).views["v"], base)
    assert not torch.allclose(build(spec)(table(epoch=1)).views["v"], base)


def test_a_repeated_sample_has_views_of_its_own_each_time(tokenizer):
    spec = {
        "plain": PLAIN,
        "image": ImageView(augmentation=CropColour.Config()),
        "text": TextView(templates=tuple(f"{n} {{}}" for n in range(50))),
    }
    once = build(spec, tokenizer)(table())
    batch = ViewBuilder(spec, 0, SIZE, tokenizer, CPU, repeats=3)(table())
    assert batch.samples.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(set(batch.keys.tolist())) == 12
    first = batch.every(3)  # as if it were there once
    assert torch.equal(first.samples, once.samples)
    assert torch.equal(first.keys, once.keys)
    for name, view in once.views.items():
        assert torch.equal(first.views[name], view), name
    for time in (1, 2):
        assert torch.equal(batch.views["plain"][time::3], once.views["plain"])
        changes = (batch.views["image"][time::3] - once.views["image"]).abs()
        assert changes.amax(dim=(1, 2, 3)).min() > 0.01
        assert not torch.equal(batch.views["text"][time::3], once.views["text"])


@pytest.mark.parametrize("cut", [slice(0, 2), slice(2, 4), slice(1, 2)])
def test_a_slice_of_a_table_gives_its_own_rows(cut, tokenizer):
    """The stream hands over slices of larger tables: offsets must count."""
    spec = {
        "image": ImageView(augmentation=CropColour.Config()),
        "text": TextView(),
        "same": IdentityView(),
    }
    views = build(spec, tokenizer)
    whole = views(table())
    part = views(table().slice(cut.start, cut.stop - cut.start))
    for name in spec:
        torch.testing.assert_close(part.views[name], whole.views[name][cut])
    assert torch.equal(part.keys, whole.keys[cut])


def test_a_table_of_several_pieces_is_one_batch():
    pieces = pa.concat_tables([table().slice(0, 1), table().slice(1, 3)])
    views = build({"image": PLAIN})
    assert torch.equal(views(pieces).views["image"], views(table()).views["image"])


def test_images_that_are_not_there_are_an_error():
    for builder, data in [
        (build({"image": PLAIN}), table().drop_columns("image")),
        (build({"image": PLAIN}, size=None), table()),
    ]:
        with pytest.raises(ConfigError, match=r"needs images: set data\.decode\.size"):
            builder(data)


# --- texts ------------------------------------------------------------------------------------


def test_a_text_view_is_token_ids(tokenizer):
    tokens = build({"text": TextView()}, tokenizer)(table()).views["text"]
    assert tokens.shape == (4, 24)
    assert tokens.dtype == torch.int64
    assert np.array_equal(tokens.numpy(), tokenizer.encode(CAPTIONS))
    assert tokens[0, 0] == START
    assert END in tokens[0]
    assert tokens[0, -1] == PAD


def test_of_long_texts_a_piece_is_drawn_by_key():
    captions = [" ".join(f"red{place}" for place in range(40)) for _ in range(4)]
    short = Tokenizer.train(captions, TokenizerConfig(vocabulary=300, length=8))
    view = build({"text": TextView(piece="random")}, short)
    found = view(table(captions=captions)).views["text"]
    assert len({tuple(row) for row in found.tolist()}) > 1
    assert torch.equal(view(table(captions=captions)).views["text"], found)
    assert not torch.equal(view(table(epoch=1, captions=captions)).views["text"], found)


def test_texts_do_not_need_images(tokenizer):
    data = table().drop_columns("image")
    assert set(build({"text": TextView()}, tokenizer, size=None)(data).views) == {"text"}


def test_a_missing_tokenizer_is_an_error():
    with pytest.raises(ConfigError, match="needs a tokenizer"):
        build({"text": TextView()})(table())


@pytest.mark.parametrize(
    "view", [TextView(field="capton"), TextView(extras="capton"), IdentityView(field="capton")]
)
def test_a_missing_field_names_the_nearest_one(view, tokenizer):
    with pytest.raises(ConfigError) as caught:
        build({"x": view}, tokenizer)(table())
    assert str(caught.value) == (
        "no text field 'capton' in data.decode.text; did you mean 'caption'?"
    )


def test_without_templates_and_extras_texts_stay():
    assert compose(["a", "b {}"], None, TextView(), keys(2)) == ["a", "b {}"]


def test_templates_are_drawn_evenly_by_key():
    view = TextView(templates=("a {}", "the {}", "{}"))
    texts = [f"t{i}" for i in range(3000)]
    composed = compose(texts, None, view, keys(3000))
    stems = [text.replace(f"t{i}", "{}") for i, text in enumerate(composed)]
    for template in view.templates:
        assert stems.count(template) == pytest.approx(1000, abs=110)
    assert compose(texts, None, view, keys(3000)) == composed
    assert compose(texts, None, view, keys(3000, epoch=1)) != composed
    other = TextView(templates=view.templates, stream=1)
    assert compose(texts, None, other, keys(3000)) != composed


def test_a_text_is_the_same_alone_as_among_others():
    view = TextView(templates=("a {}", "the {}"), extras="tags", extras_probability=0.5)
    texts, extras = [f"t{i}" for i in range(50)], ["x, y, z"] * 50
    whole = compose(texts, extras, view, keys(50))
    for place in (0, 17, 49):
        one = slice(place, place + 1)
        assert compose(texts[one], extras[one], view, keys(50)[one]) == whole[one]


@pytest.mark.parametrize(
    ("probability", "low", "high"), [(0.0, 0, 0), (0.5, 430, 570), (1, 1000, 1000)]
)
def test_extras_are_appended_as_often_as_asked(probability, low, high):
    view = TextView(extras="tags", extras_probability=probability)
    composed = compose(["t"] * 1000, ["x, y"] * 1000, view, keys(1000))
    assert set(composed) <= {"t", "t, x", "t, y"}
    assert low <= sum(text != "t" for text in composed) <= high
    # Which phrase it is does not follow from the draw that decided to append one.
    assert composed.count("t, x") == pytest.approx(500 * probability, abs=70)


def test_a_sample_without_extras_stays_as_it_is():
    view = TextView(templates=("a {}",), extras="tags", extras_probability=1.0)
    assert compose(["t", "u"], ["", "x"], view, keys(2)) == ["a t", "a u, x"]


# --- identities -------------------------------------------------------------------------------


def test_identities_are_equal_where_texts_are():
    ids = build({"same": IdentityView()})(table()).views["same"]
    assert ids.dtype == torch.int64
    assert (ids[:, None] == ids[None]).tolist() == [[a == b for b in CAPTIONS] for a in CAPTIONS]


LONG = "red circle " * 20


@pytest.mark.parametrize(
    ("captions", "count"),
    [
        (["Red circle", "red circle", "ｒed circle", "red  circle"], 2),
        (["red circle", " red circle", f"{LONG} a", f"{LONG} b"], 2),
    ],
)
def test_texts_that_a_tower_cannot_tell_apart_are_one(tokenizer, captions, count):
    batch = build({"same": IdentityView(), "text": TextView()}, tokenizer)(table(captions=captions))
    same, tokens = batch.views["same"], batch.views["text"]
    assert (same[:, None] == same[None]).tolist() == (tokens[:, None] == tokens[None]).all(
        2
    ).tolist()
    assert len(set(same.tolist())) == count


def reads(*texts: str) -> Tokenizer:
    """A tokenizer of a token a word, of which it reads six."""
    words = " ".join(texts).split()
    found = Tokenizer.train(words * 5, TokenizerConfig(vocabulary=320, length=8))
    for word in words:
        assert np.count_nonzero(found.encode([word])) == 3  # with start and end
    return found


def equal(view: IdentityView, one: str, other: str, tokenizer: Tokenizer) -> bool:
    first, second = build({"same": view}, tokenizer)(table(2, captions=[one, other])).views["same"]
    return first.item() == second.item()


@pytest.mark.parametrize(
    ("templates", "first"),
    [
        (("{}",), 6),
        (("a b c {}",), 3),
        (("a {}", "a b c {}", "{}"), 3),
        (("a b {} c c c c c",), 4),  # what comes behind takes nothing of the caption
    ],
)
def test_a_template_takes_the_room_of_captions(templates, first):
    view, short = IdentityView(templates=templates), reads("a b c r s t u v w x y")
    seen = ["r", "s", "t", "u", "v", "w"]
    for place in range(6):
        other = [*seen[:place], "x", *seen[place + 1 :]]
        assert equal(view, " ".join(seen), " ".join(other), short) == (place >= first)


def test_of_captions_read_in_pieces_all_counts():
    view, short = IdentityView(piece="random"), reads("r s t u v w x y")
    assert not equal(view, "r s t u v w x", "r s t u v w y", short)
    assert equal(view, "r s t u v w x", "r s t u v w x", short)
    # Capitals and forms of letters are nothing to the tokenizer.
    assert equal(view, "r s T u v w x", "r s t u v w ｘ", short)


def test_identities_are_the_same_in_every_process():
    # Ranks compare them: Python's own salted hash would not do.
    ids = build({"same": IdentityView()})(table()).views["same"]
    assert ids[0].item() == int.from_bytes(bytes.fromhex("141157f986e1e328"), "little", signed=True)


def test_identities_of_many_texts_do_not_meet():
    captions = [f"text {number}" for number in range(4)]
    ids = torch.cat(
        [
            build({"same": IdentityView()})(table(captions=[f"{c} {i}" for c in captions])).views[
                "same"
            ]
            for i in range(100)
        ]
    )
    assert len(set(ids.tolist())) == 400


def test_from_a_source_to_a_batch(tokenizer):
    data = DataConfig.model_validate(
        {
            "source": {"kind": "synthetic"},
            "decode": {"size": SIZE, "text": {"caption": "txt"}},
        }
    )
    reader = Reader(Synthetic(Synthetic.Config(samples=12, size=32)), data, 0)
    spec = {"image": ImageView(augmentation=CropColour.Config()), "text": TextView()}
    for part in reader.batches(Share(8, 1, 2, 0, 3)):
        batch = build(spec, tokenizer)(part)
        assert len(batch) == 4
        assert batch.views["image"].shape == (4, 3, SIZE, SIZE)
        assert batch.views["image"].abs().max() <= 1
