from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from pipelines.core import ConfigError
from pipelines.core.config import validate
from pipelines.core.source import Part, RawSample
from pipelines.decode import AudioConfig, Decoder, DecoderConfig, VideoConfig
from pipelines.reader import DataConfig, Reader, Share
from pipelines.reader_config import ReaderConfig
from pipelines.shards import index
from pipelines.shards.writer import write_shards
from pipelines.sources.sprites import Sprites
from pipelines.sprites.draw import KEY
from pipelines.stream import stream_here

FRAMES, FPS, RATE = 32, 16, 8000


def make(samples: int = 12, **options: object) -> Sprites:
    return Sprites(Sprites.Config(samples=samples, **options))


def decoder(size: int = 64) -> Decoder:
    return Decoder(
        DecoderConfig(
            size=None,
            text={"caption": "txt", "group": "json.group"},
            video=VideoConfig(frames=FRAMES, rate=FPS, size=size, sampling="start"),
            audio=AudioConfig(rate=RATE, seconds=FRAMES / FPS, sampling="start"),
        )
    )


@pytest.fixture(scope="module")
def raws() -> list[RawSample]:
    return list(make().read(np.arange(12)))


def test_a_sample_is_the_same_in_any_order_and_process(raws):
    again = pickle.loads(pickle.dumps(make()))
    asked = np.random.default_rng(0).integers(0, 12, 10)
    assert list(again.read(asked)) == [raws[i] for i in asked]


def test_nothing_that_was_made_of_pictures_is_pickled(raws):
    source = make()
    list(source.read(np.arange(3)))
    index._in_memory.cache_clear()  # both would have the same one
    fresh = make()
    assert len(pickle.dumps(fresh)) < 1_000_000
    assert len(pickle.dumps(source)) < len(pickle.dumps(fresh)) + 1000  # less than one picture


def test_samples_and_seeds_differ(raws):
    others = list(make(seed=1).read(np.arange(12)))
    assert len({raw.members["mov"] for raw in [*raws, *others]}) == 24


@pytest.mark.parametrize("codec", ["raw", "mjpeg"])
def test_a_film_has_the_frames_times_and_sound_that_were_asked(codec):
    for raw in make(codec=codec).read(np.arange(3)):
        arrays = decoder()(raw).arrays
        assert arrays["video"].shape == (FRAMES, 64, 64, 3)
        assert np.allclose(arrays["video.times"], np.arange(FRAMES) / FPS, atol=1e-4)
        assert arrays["audio"].shape == (FRAMES / FPS * RATE,)
        assert arrays["video.audio"][0] == arrays["audio.present"][0] == 1


def test_what_is_heard_is_what_is_labelled(raws):
    """Sound jumps at impacts: its steepest rises are within a frame of them."""
    checked = 0
    for raw in raws:
        sound = decoder()(raw).arrays["audio"]
        impacts = np.array(json.loads(raw.members["json"])["impacts"])
        if not len(impacts):
            continue
        loudest = float(np.abs(sound).argmax()) / RATE
        assert np.abs(impacts - loudest).min() < 1 / FPS
        checked += 1
    assert checked > 6


def test_what_moves_is_seen(raws):
    for raw in raws:
        film = decoder()(raw).arrays["video"].astype(int)
        moved = np.abs(np.diff(film, axis=0)).max(axis=(1, 2, 3))
        assert (moved > 20).mean() > 0.5
        assert not np.array_equal(film, film[::-1])


def test_falling_sprites_are_lower_at_the_end():
    """The direction of time can be told from frames: what is in the air comes down."""
    lower = []
    for raw in make(40, sprites=1, size=32).read(np.arange(40)):
        if json.loads(raw.members["json"])["scene"] != "fall":
            continue
        film = decoder(32)(raw).arrays["video"].astype(int)
        ground = np.median(film, axis=0)
        rows = np.abs(film - ground).sum(axis=(2, 3)) + 1e-9
        height = (rows @ np.arange(32)) / rows.sum(axis=1)
        lower.append(height[-8:].mean() - height[:4].mean())
    assert np.mean(np.array(lower) > 0) > 0.8


def test_captions_and_labels_go_together(raws):
    for raw in raws:
        label = json.loads(raw.members["json"])
        text = raw.members["txt"].decode()
        assert label["label"] in text
        assert label["label"] == label["names"][0]
        assert all(name in text for name in label["names"])
        assert 2 <= label["sprites"] == len(label["names"]) <= 4
        assert label["group"]
        assert label["bounces"] + label["collisions"] == len(label["impacts"])


def test_planted_key_frames_change_pictures_and_nothing_else(raws):
    (planted,) = make(planted="keyframes").read(np.array([5]))
    film, cue = (decoder()(raw).arrays for raw in (raws[5], planted))
    same = [np.array_equal(a, b) for a, b in zip(film["video"], cue["video"], strict=True)]
    assert same == sorted(same, reverse=True)  # all after the one key frame, but the first of them
    assert same[0]
    assert not any(same[KEY // 4 :])
    assert np.array_equal(film["audio"], cue["audio"])
    assert planted.members["json"] == raws[5].members["json"]


def test_any_size_can_be_asked():
    options = {"frames": 5, "fps": 30, "size": 33, "rate": 16_000, "sprites": 12}
    (raw,) = make(codec="mjpeg", **options).read(np.array([2]))
    config = DecoderConfig(size=None, video=VideoConfig(frames=5, rate=30, size=33))
    assert Decoder(config)(raw).arrays["video"].shape == (5, 33, 33, 3)


def test_a_million_films_cost_nothing_until_they_are_read():
    source = make(10**9)
    assert list(source.parts) == [Part(10**9)]
    assert source.shards == 0
    assert list(source.faults) == []
    (raw,) = source.read(np.array([10**9 - 1]))
    assert not raw.fault


def test_the_digest_is_the_config_and_the_pictures():
    unseen = "eagleray://emoji/emoji-unseen-*.tar"
    options = [{}, {"seed": 1}, {"planted": "keyframes"}, {"codec": "mjpeg"}, {"pictures": unseen}]
    assert len({make(**option).digest for option in options}) == len(options)
    assert make().digest == make().digest


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigError, match="framse: unknown key; did you mean 'frames'"):
        validate(Sprites.Config, {"framse": 3}, "recipe")


def test_pictures_without_sprites_are_a_fault_of_the_sample(tmp_path, picture):
    blank = {"png": picture(0, 8, 8), "json": b"{}"}  # no caption
    write_shards([("a", blank)], str(tmp_path), "p")
    (raw,) = make(pictures=str(tmp_path / "p-*.tar")).read(np.array([0]))
    assert "no sprite in 64 pictures" in raw.fault


def test_it_streams_like_any_source():
    data = DataConfig.model_validate(
        {
            "source": {"kind": "sprites", "samples": 8, "size": 32},
            "decode": {
                "size": None,
                "text": {"caption": "txt"},
                "video": {"frames": 4, "rate": 8, "size": 32},
                "audio": {"rate": RATE, "seconds": 0.5},
            },
        }
    )
    reader = Reader(make(8, size=32), data, 0)
    share = Share(4, 0, 1, 0, 4)
    tables = list(stream_here(reader, share, ReaderConfig()))
    assert [table.num_rows for table in tables] == [4] * 4
    for table in tables:
        assert set(table["fault"].to_pylist()) == {""}
        starts = np.array(table["audio.start"].to_pylist()).ravel()
        times = np.array(table["video.times"].to_pylist())
        assert np.allclose(starts, times[:, 0], atol=1e-4)


def test_what_is_simulated_together_is_bounded_whatever_a_film_is():
    assert make()._together == 256
    long = make(frames=10_000, fps=1, sprites=12)
    assert long._together == 1
    slow = make(frames=64, fps=1, sprites=4)
    assert slow._together * 64 * 120 * 4 <= 1 << 19


def test_sound_alone_is_the_sound_of_the_films_and_draws_no_picture(raws, monkeypatch):
    monkeypatch.setattr("pipelines.sources.sprites.draw_frames", None)
    heard = AudioConfig(rate=RATE, seconds=FRAMES / FPS, sampling="start")
    decode = Decoder(DecoderConfig(size=None, audio=heard))
    for film, alone in zip(raws, make(tracks="sound").read(np.arange(12)), strict=True):
        assert set(alone.members) == {"wav", "txt", "json"}
        for name in ("txt", "json"):
            assert alone.members[name] == film.members[name]
        one, other = (decode(raw, 0).arrays for raw in (film, alone))
        np.testing.assert_array_equal(one["audio"], other["audio"])


def test_the_digest_of_films_is_that_of_before_there_was_sound_alone():
    assert "tracks" not in make().digest
    assert make(tracks="sound").digest != make().digest


def test_pictures_alone_are_the_films_without_their_sound(raws, monkeypatch):
    monkeypatch.setattr("pipelines.sources.sprites.make_sound", None)
    for film, silent in zip(raws, make(tracks="pictures").read(np.arange(12)), strict=True):
        for name in ("txt", "json"):
            assert silent.members[name] == film.members[name]
        one, other = (decoder()(raw).arrays for raw in (film, silent))
        np.testing.assert_array_equal(one["video"], other["video"])
        np.testing.assert_array_equal(one["video.times"], other["video.times"])
        assert other["video.audio"][0] == other["audio.present"][0] == 0
    assert len({make(tracks=name).digest for name in ("both", "pictures", "sound")}) == 3
