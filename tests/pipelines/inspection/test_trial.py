from __future__ import annotations

import pytest

from pipelines.core.source import RawSample
from pipelines.inspection.trial import attempt, kind_of


def reason(**members: bytes) -> str:
    named = {name.replace("_", "."): data for name, data in members.items()}
    return attempt(RawSample("s.tar", "k", named), 0)


def test_all_that_training_decodes_is_decoded(picture, film, sound, noise) -> None:
    assert reason(png=picture(), left_jpg=picture(format="JPEG"), txt=b"a", json=b"{}") == ""
    assert reason(mp4=film([0.0, 0.04, 0.08])) == ""
    assert reason(wav=sound(noise(0.5, 16_000))) == ""
    assert reason() == ""


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"png": b"x"}, "png: not a readable image (UnidentifiedImageError)"),
        ({"left_jpg": b"x"}, "left.jpg: not a readable image (UnidentifiedImageError)"),
        ({"mp4": b"x"}, "mp4: not a readable video (InvalidDataError)"),
        ({"wav": b"x"}, "wav: not a readable audio (InvalidDataError)"),
        ({"txt": b"\xff"}, "member 'txt' is not valid (UnicodeDecodeError)"),
        ({"json": b"{"}, "member 'json' is not valid (JSONDecodeError)"),
        ({"meta_json": b"{"}, "meta.json: member 'json' is not valid (JSONDecodeError)"),
    ],
)
def test_a_damaged_member_has_a_reason(members: dict[str, bytes], why: str) -> None:
    assert reason(**members) == why


def test_a_film_whose_sound_cannot_be_decoded_is_unreadable(film, noise) -> None:
    data = film([0.0, 0.5, 1.0], format="avi", codec="mpeg4", samples=noise(1.0, 16_000))
    assert reason(avi=data) == ""
    assert reason(avi=data[: len(data) // 4]) != ""


def test_a_picture_that_is_cut_short_is_unreadable_though_it_has_a_header(picture) -> None:
    assert reason(png=picture(0, 200, 200)[:5000]).startswith("png: not a readable image")


def test_a_fault_of_reading_is_the_reason() -> None:
    assert attempt(RawSample("s.tar", "k", {}, "too large"), 0) == "too large"


def test_other_members_are_only_bytes() -> None:
    assert reason(pkl=b"cos\nsystem\n(S'exit 1'\ntR.", npy=b"?", cls=b"\xff") == ""
    assert kind_of("pkl") is kind_of("npy") is kind_of("") is None
