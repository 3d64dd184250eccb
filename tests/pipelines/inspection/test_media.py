from __future__ import annotations

from dataclasses import replace

from pipelines.inspection.headers import FilmHeader, PictureHeader, SoundHeader
from pipelines.inspection.media import Films, Pictures, Sounds

PICTURE = PictureHeader("JPEG", 300, 200, False, False, False, False)
SOUND = SoundHeader("aac", 44_100, 2, 3.0)
FILM = FilmHeader("h264", 640, 480, 25.0, 10.0, SOUND)


def test_nothing_has_no_facts() -> None:
    assert [made.summary() for made in (Pictures(), Films(), Sounds())] == [None, None, None]


def test_pictures_are_added_up() -> None:
    pictures = Pictures()
    pictures.add(PICTURE)
    pictures.add(replace(PICTURE, format="PNG", width=100, alpha=True))
    pictures.add(replace(PICTURE, grey=True, rotated=True))
    facts = pictures.summary()
    assert facts["count"] == 3
    assert facts["formats"] == {"JPEG": 2, "PNG": 1}
    assert (facts["width"]["min"], facts["width"]["median"], facts["width"]["max"]) == (
        100,
        300,
        300,
    )
    assert facts["shorter_side"] == [
        {"from": 64, "below": 128, "count": 1},
        {"from": 128, "below": 224, "count": 2},
    ]
    assert [facts[kind] for kind in ("grey", "alpha", "cmyk", "rotated")] == [1, 1, 0, 1]


def test_films_are_added_up_with_their_tracks() -> None:
    films = Films()
    films.add(FILM)
    films.add(replace(FILM, codec="vp9", seconds=None, rate=None, sound=None))
    facts = films.summary()
    assert (facts["count"], facts["with_audio"], facts["without_audio"]) == (2, 1, 1)
    assert facts["codecs"] == {"h264": 1, "vp9": 1}
    assert facts["seconds"]["total"] == 10
    assert facts["frames_per_second"]["max"] == 25
    assert facts["audio"]["rates"] == {"44100": 1}
    assert facts["audio"]["channels"] == {"2": 1}


def test_a_sound_of_unknown_length_is_counted() -> None:
    sounds = Sounds()
    sounds.add(replace(SOUND, seconds=None))
    assert sounds.summary()["count"] == 1
    assert sounds.summary()["seconds"] is None
