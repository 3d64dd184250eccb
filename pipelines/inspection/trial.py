"""Decoding a sample for trial, by what training decodes with."""

from __future__ import annotations

from pipelines.core.source import RawSample
from pipelines.decode import AudioConfig, Decoder, DecoderConfig, VideoConfig, audio, image, video
from pipelines.decode.text import decode_text, load_json

PICTURE, FILM, SOUND, JSON, TEXT = "picture", "video", "audio", "json", "text"
_KINDS = {
    **dict.fromkeys(image.EXTENSIONS, PICTURE),
    **dict.fromkeys(video.EXTENSIONS, FILM),
    **dict.fromkeys(audio.EXTENSIONS, SOUND),
    "json": JSON,
    "txt": TEXT,
}
_DECODERS = {
    PICTURE: Decoder(DecoderConfig(size=64)),
    # With its sound, as training can ask for it; a film without a track is silent.
    FILM: Decoder(DecoderConfig(size=None, video=VideoConfig(size=64), audio=AudioConfig())),
    SOUND: Decoder(DecoderConfig(size=None, audio=AudioConfig())),
}


def kind_of(extension: str) -> str | None:
    """What a member holds by its name; None where training decodes no such member.

    >>> kind_of("left.jpg"), kind_of("npy")
    ('picture', None)
    """
    return _KINDS.get(last(extension))


def last(extension: str) -> str:
    """The last part of an extension: ``jpg`` of ``left.jpg``."""
    return extension.rpartition(".")[2]


def attempt(raw: RawSample, key: int) -> str:
    """Decode every member of a sample that training can decode.

    Args:
        raw: The sample.
        key: 64-bit key, from which the places of clips and windows follow.

    Returns:
        Why it cannot be decoded, one line; empty where it can.
    """
    if raw.fault:
        return raw.fault
    for extension, data in raw.members.items():
        kind, alone = kind_of(extension), {last(extension): data}
        try:
            if kind is not None and kind in _DECODERS:
                _DECODERS[kind](RawSample(raw.shard, raw.key, alone), key)
            elif kind == TEXT:
                decode_text(alone, "txt")
            elif kind == JSON:
                load_json(alone, "json")
        except ValueError as error:
            return str(error) if f"'{extension}'" in str(error) else f"{extension}: {error}"
    return ""
