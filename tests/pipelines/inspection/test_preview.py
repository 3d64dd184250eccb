from __future__ import annotations

import numpy as np
import pytest

from pipelines.core.source import RawSample
from pipelines.inspection import preview as module
from pipelines.inspection.preview import PICTURES, chosen, preview, previews
from pipelines.inspection.survey import spread


def test_a_picture_and_its_texts_are_shown(picture) -> None:
    members = {"png": picture(), "txt": b"a caption", "cls": b"7", "pkl": b"cos\nsystem\n."}
    shown = preview(RawSample("s.tar", "k", members), 0, [])
    assert (shown.shard, shown.key, shown.reason) == ("s.tar", "k", "")
    assert shown.members == [(name, len(data)) for name, data in members.items()]
    assert shown.texts == [("txt", "a caption"), ("cls", "7")]
    assert [(p.width, p.height) for p in shown.pictures] == [(16, 16)]
    assert (shown.frames, shown.wave) == ([], None)


def test_a_film_has_frames_and_its_sound(film, noise) -> None:
    times = [n / 25 for n in range(25)]
    data = film(times, samples=noise(1.0, 16_000))
    shown = preview(RawSample("s.tar", "k", {"mp4": data}), 0, [])
    assert len(shown.frames) == 5
    assert shown.wave is not None
    assert shown.wave.seconds == pytest.approx(1.0, abs=0.1)


def test_a_sound_has_a_waveform(sound, noise) -> None:
    shown = preview(RawSample("s.tar", "k", {"wav": sound(noise(1.0, 16_000))}), 0, [])
    assert shown.wave is not None
    assert shown.pictures == shown.frames == []


def test_of_many_pictures_the_first_are_shown(picture) -> None:
    members = {f"{n}.png": picture(n) for n in range(PICTURES + 3)}
    assert len(preview(RawSample("s.tar", "k", members), 0, []).pictures) == PICTURES


def test_what_cannot_be_decoded_has_a_reason_and_its_texts() -> None:
    shown = preview(RawSample("s.tar", "k", {"png": b"?", "txt": b"words"}), 0, [])
    assert shown.reason == "png: not a readable image (UnidentifiedImageError)"
    assert shown.texts == [("txt", "words")]
    assert shown.pictures == ()
    assert preview(RawSample("s.tar", "k", {}, "too large"), 0, []).reason == "too large"


def test_what_only_training_can_read_says_so(picture, monkeypatch) -> None:
    def fail(data: bytes) -> None:
        raise module.SampleError("no")

    monkeypatch.setattr(module, "picture_thumbnail", fail)
    shown = preview(RawSample("s.tar", "k", {"png": picture()}), 0, [])
    assert shown.reason == "readable in training, but not as a whole: no"


def test_long_texts_and_names_are_cut() -> None:
    members = {"txt": b"a" * 5000, "x" * 500: b"", "cls": b"c" * 100}
    shown = preview(RawSample("s.tar", "k" * 5000, members), 0, [])
    assert [len(text) for _, text in shown.texts] == [280]
    assert len(shown.key) == 200
    assert max(len(name) for name, _ in shown.members) == 80


def test_fields_can_be_chosen() -> None:
    raw = RawSample("s.tar", "k", {"txt": b"a", "json": b'{"tags": ["b", "c"]}'})
    assert preview(raw, 0, ["json.tags[]"]).texts == [("json.tags[]", "b"), ("json.tags[]", "c")]


def test_samples_are_chosen_among_those_that_were_looked_at() -> None:
    looked = spread(np.arange(100), 100, 5000)
    shown = chosen(12, 100, 5000)
    assert len(shown) == 12
    assert set(shown.tolist()) <= set(looked.tolist())
    assert chosen(48, 5, 5).tolist() == [0, 1, 2, 3, 4]
    assert chosen(0, 5, 5).tolist() == []


def test_samples_are_read_in_the_order_asked(opened_set) -> None:
    source = opened_set({str(n): {"txt": b"%d" % n} for n in range(5)})
    assert [p.key for p in previews(source, np.array([3, 1]), [])] == ["3", "1"]
    assert list(previews(source, np.array([], np.int64), [])) == []
