from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.augment.crop_colour import CropColour
from pipelines.augment.none import Nothing
from pipelines.augment.quality import Quality
from pipelines.core import ConfigError
from pipelines.core.randomness import sample_keys
from pipelines.views import AudioPresentView, AudioView, ClipView, ViewBuilder
from pipelines.views.film import film_frames, own_frames

SIZE, FRAMES, SOUND = 12, 10, 50
PLAIN = Nothing.Config()


def stored(count: int = 6) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


def column(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values[0].size)


def table(count: int = 6, still: bool = False) -> pa.Table:
    video = stored(count)
    if still:
        video = np.repeat(video[:, :1], FRAMES, 1)
    sound = np.random.default_rng(1).uniform(-1, 1, (count, SOUND)).astype(np.float32)
    return pa.table(
        {
            "epoch": pa.array([0] * count, pa.int64()),
            "sample": pa.array(range(count), pa.int64()),
            "video": column(video),
            "video.times": column(np.zeros((count, FRAMES), np.float32)),
            "audio": column(sound),
            "audio.present": column(np.arange(count, dtype=np.uint8)[:, None] % 2),
        }
    )


def build(**spec) -> ViewBuilder:
    return ViewBuilder(spec, 0, None, None, torch.device("cpu"))


def keys(count: int) -> torch.Tensor:
    samples = torch.arange(count)
    return sample_keys(0, torch.zeros_like(samples), samples)


def test_a_clip_view_is_the_stored_frames_normalised() -> None:
    clip = build(clip=ClipView(augmentation=PLAIN))(table()).views["clip"]
    assert clip.shape == (6, FRAMES, 3, SIZE, SIZE)
    expected = stored().transpose(0, 1, 4, 2, 3) / 127.5 - 1
    np.testing.assert_allclose(clip.numpy(), expected, atol=1e-6)


def test_one_augmentation_holds_for_all_frames_of_a_clip() -> None:
    view = ClipView(augmentation=CropColour.Config(blur=0.5))
    clip = build(clip=view)(table(still=True)).views["clip"]
    for frame in range(1, FRAMES):
        torch.testing.assert_close(clip[:, frame], clip[:, 0])
    plain = build(clip=ClipView(augmentation=PLAIN))(table(still=True)).views["clip"]
    assert (clip - plain).abs().amax((1, 2, 3, 4)).min() > 0.01


def test_a_repeated_film_is_cut_anew_each_time() -> None:
    spec = {
        "clip": ClipView(augmentation=PLAIN, frames=3),
        "sound": AudioView(),
        "present": AudioPresentView(),
    }
    given = table()
    batch = ViewBuilder(spec, 0, None, None, torch.device("cpu"), repeats=5)(given)
    once = build(**spec)(given)
    for name, view in once.views.items():
        assert torch.equal(batch.every(5).views[name], view), name
        if name != "clip":
            assert torch.equal(batch.views[name], view.repeat_interleave(5, 0)), name
    places = spec["clip"].places(batch.keys, FRAMES)
    assert len({tuple(row) for row in places.tolist()}) > 1
    frames = torch.from_numpy(stored()).permute(0, 1, 4, 2, 3) / 127.5 - 1
    for row, chosen in enumerate(places):
        torch.testing.assert_close(batch.views["clip"][row], frames[row // 5, chosen].float())


def test_what_is_drawn_for_each_frame_differs_between_frames() -> None:
    view = ClipView(augmentation=PLAIN, each_frame=Quality.Config())
    clip = build(clip=view)(table(still=True)).views["clip"]
    assert (clip[:, 1:] - clip[:, :1]).abs().amax((2, 3, 4)).min() > 1e-3


def test_chosen_frames_are_those_of_places() -> None:
    view = ClipView(augmentation=PLAIN, frames=3, strides=(1, 2, 4))
    clip = build(clip=view)(table()).views["clip"]
    whole = build(clip=ClipView(augmentation=PLAIN))(table()).views["clip"]
    for row, chosen in enumerate(view.places(keys(6), FRAMES)):
        assert torch.equal(clip[row], whole[row, chosen])


def of_length(frames: int) -> torch.Tensor:
    """Times of a film that has so many frames, at two a second."""
    return torch.arange(FRAMES).clamp(max=frames - 1)[None] / 2


def timed(times: torch.Tensor) -> pa.Table:
    """Films of six whose frames are of these times, whatever is stored of them. [6, FRAMES]."""
    return table().set_column(3, "video.times", column(times.float().numpy()))


@pytest.mark.parametrize("frames", [7, 8, FRAMES])
def test_clips_of_which_the_order_is_asked_end_where_the_film_does(frames: int) -> None:
    view = ClipView(augmentation=PLAIN, frames=3, strides=(1, 3), ordered=True)
    many = keys(3000)
    places = view.places(many, FRAMES, torch.full((3000,), frames))
    assert places.max() == frames - 1
    steps = places.diff(dim=1)
    assert torch.equal(steps, (1 + 2 * view.drawn_strides(many))[:, None].expand(-1, 2))
    if frames == FRAMES:
        assert torch.equal(places, view.places(many, FRAMES))


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_a_film_too_short_for_them_stands_still_at_every_stride(frames: int) -> None:
    view = ClipView(augmentation=PLAIN, frames=3, strides=(1, 3), ordered=True)
    places = view.places(keys(100), FRAMES, torch.full((100,), frames))
    assert torch.equal(places, torch.zeros_like(places))


def test_it_is_known_from_the_times_that_were_decoded() -> None:
    times = torch.cat([of_length(frames) for frames in (1, 5, 6, 8, 9, FRAMES)]).float()
    given = timed(times)
    whole = build(clip=ClipView(augmentation=PLAIN))(given).views["clip"]
    kinds = (
        ({}, None),
        ({"ordered": True}, own_frames(times)[0]),
        ({"inside": True}, film_frames(times)),
    )
    for options, filled in kinds:
        view = ClipView(augmentation=PLAIN, frames=6, **options)
        clip = build(clip=view)(given).views["clip"]
        for row, chosen in enumerate(view.places(keys(6), FRAMES, filled)):
            assert torch.equal(clip[row], whole[row, chosen])


@pytest.mark.parametrize("strides", [(1,), (1, 2)])
def test_a_film_that_fills_what_is_decoded_is_cut_alike_whatever_is_asked(
    strides: tuple[int, ...],
) -> None:
    given = timed(torch.arange(FRAMES).expand(6, -1) / 16)
    view = ClipView(augmentation=CropColour.Config(), frames=4, strides=strides)
    clip = build(clip=view)(given).views["clip"]
    for option in ("ordered", "inside"):
        asked = view.model_copy(update={option: True})
        assert torch.equal(build(clip=asked)(given).views["clip"], clip)


@pytest.mark.parametrize("strides", [(1,), (1, 2)])
def test_a_slow_film_of_which_the_order_is_asked_is_cut_of_its_own_frames(
    strides: tuple[int, ...],
) -> None:
    shown = torch.tensor([0, 0, 1, 2, 3, 3, 4, 5, 6, 6])
    own = torch.tensor([0, 2, 3, 4, 6, 7, 8])
    given = timed(shown.expand(6, -1) / 12)
    whole = build(clip=ClipView(augmentation=PLAIN))(given).views["clip"]
    view = ClipView(augmentation=PLAIN, frames=3, strides=strides, ordered=True)
    clip = build(clip=view)(given).views["clip"]
    for row, chosen in enumerate(view.places(keys(6), FRAMES, torch.full((6,), 7))):
        assert torch.equal(clip[row], whole[row, own[chosen]])


@pytest.mark.parametrize("frames", [1, 3, 5, 9])
def test_clips_inside_a_film_end_where_it_does_or_go_as_far_as_it(frames: int) -> None:
    view = ClipView(augmentation=PLAIN, frames=4, inside=True)
    places = view.places(keys(500), FRAMES, torch.full((500,), frames))
    assert (places.diff(dim=1) == 1).all()
    starts = places[:, 0].unique().tolist()
    assert starts == list(range(max(1, frames - 4 + 1)))


def test_places_are_even_at_every_stride() -> None:
    view = ClipView(augmentation=PLAIN, frames=3, strides=(1, 2, 4))
    many = keys(9000)
    places, drawn = view.places(many, FRAMES), view.drawn_strides(many)
    assert drawn.bincount().float().div(9000).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    for number, stride in enumerate(view.strides):
        chosen = places[drawn == number]
        assert set(chosen.diff(dim=1).flatten().tolist()) == {stride}
        free = FRAMES - 2 * stride
        counts = chosen[:, 0].bincount(minlength=free).float()
        assert len(counts) == free
        assert (counts / counts.sum() - 1 / free).abs().max() < 0.03


def test_two_streams_draw_apart_and_a_slice_its_own_rows() -> None:
    spec = {
        name: ClipView(augmentation=CropColour.Config(), frames=4, stream=stream)
        for name, stream in (("a", 0), ("b", 1))
    }
    views = build(**spec)
    whole, part = views(table()), views(table().slice(2, 3))
    torch.testing.assert_close(part.views["b"], whole.views["b"][2:5])
    assert not torch.equal(spec["a"].places(keys(50), 10), spec["b"].places(keys(50), 10))


def test_sound_and_whether_there_is_some() -> None:
    batch = build(sound=AudioView(), present=AudioPresentView())(table())
    flat = np.array(table()["audio"].to_pylist(), np.float32)
    assert np.array_equal(batch.views["sound"].numpy(), flat)
    assert batch.views["present"].tolist() == [False, True] * 3


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (ClipView(augmentation=PLAIN), r"set data\.decode\.video"),
        (AudioView(), r"set data\.decode\.audio"),
        (AudioPresentView(), r"set data\.decode\.audio"),
    ],
)
def test_what_is_not_decoded_is_an_error(view, message: str) -> None:
    data = table().select(["epoch", "sample"])
    with pytest.raises(ConfigError, match=message):
        build(view=view)(data)


def test_clips_that_are_too_short_say_how_long_they_must_be() -> None:
    view = ClipView(augmentation=PLAIN, frames=4, strides=(1, 4))
    with pytest.raises(
        ConfigError, match=r"clips of 13: raise data\.decode\.video\.frames, now 12"
    ):
        view.check(12)
    view.check(13)
    with pytest.raises(ConfigError, match=r"set data\.decode\.video"):
        view.check(0)
