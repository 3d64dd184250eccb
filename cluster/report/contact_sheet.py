"""A data set as one page: what it holds, and some of its samples."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.report import formats
from cluster.report.contact_sheet_tables import name, size, tables
from cluster.report.environment import fill
from pipelines.inspection import Preview, Thumbnail, Wave

_PNG = b"\x89PNG"
_HEIGHT = 40  # of a waveform's drawing


@dataclass(frozen=True)
class PictureView:
    """A picture or frame.

    Attributes:
        image: A ``data:`` URI.
        width: In pixels.
        height: In pixels.
        label: Size, or a frame's time.
    """

    image: str
    width: int
    height: int
    label: str


@dataclass(frozen=True)
class TileView:
    """A sample.

    Attributes:
        key: Its key.
        shard: Its shard's name.
        reason: Why it is unreadable, or empty.
        pictures: Its pictures.
        frames: Frames of its video.
        wave: Path data of its waveform, or empty.
        bars: How wide that is.
        heard: How long and how loud its sound is.
        texts: Field and text.
        about: Size of its video, and what it consists of.
    """

    key: str
    shard: str
    reason: str
    pictures: Sequence[PictureView]
    frames: Sequence[PictureView]
    wave: str
    bars: int
    heard: str
    texts: Sequence[tuple[str, str]]
    about: str


def render_sheet(
    url: str, facts: Mapping[str, Any], samples: Iterable[Preview], unreadable: Iterable[Preview]
) -> str:
    """Render a data set as one HTML page that needs no other file and runs nothing.

    Args:
        url: Pattern of its shards.
        facts: What ``measure_index`` and ``look_at`` found.
        samples: Samples to show.
        unreadable: Samples that could not be decoded, to show by themselves.
    """
    found = tables(facts)
    return fill(
        "contact_sheet.html",
        ("style.css", "contact_sheet.css", "print.css", "contact_sheet_print.css"),
        url=url,
        samples=formats.count(facts["samples"]),
        looked_at=formats.count(facts["looked_at"]),
        size=size(facts["bytes"]),
        whole=found[0].rows,
        bad=[table for table in found[1:] if table.bad],
        tables=[table for table in found[1:] if not table.bad],
        tiles=[_tile(preview) for preview in samples],
        unreadable=[_tile(preview) for preview in unreadable],
    )


def _tile(preview: Preview) -> TileView:
    wave = preview.wave
    return TileView(
        key=preview.key,
        shard=name(preview.shard),
        reason=preview.reason,
        pictures=[_picture(picture) for picture in preview.pictures],
        frames=[_picture(frame) for frame in preview.frames],
        wave=_path(wave.peaks) if wave else "",
        bars=len(wave.peaks) if wave else 0,
        heard=_heard(wave) if wave else "",
        texts=preview.texts,
        about=_about(preview),
    )


def _about(preview: Preview) -> str:
    parts = [f"{width} × {height}" for width, height in (f.full for f in preview.frames[:1])]
    return ", ".join([*parts, *(f"{name} {size(count)}" for name, count in preview.members)])


def _picture(picture: Thumbnail) -> PictureView:
    kind = "png" if picture.data.startswith(_PNG) else "jpeg"
    data = base64.b64encode(picture.data).decode("ascii")
    label = f"{picture.full[0]} × {picture.full[1]}"
    if picture.seconds is not None:
        label = f"at {formats.duration(round(picture.seconds, 2))}"
    return PictureView(f"data:image/{kind};base64,{data}", picture.width, picture.height, label)


def _path(peaks: Sequence[float]) -> str:
    """One upright line a peak, around the middle: the loudest fills it, silence is a dot."""
    middle = _HEIGHT / 2
    loudest = max(peaks, default=0.0) or 1.0
    heights = [max(0.5, peak / loudest * (middle - 1)) for peak in peaks]
    return "".join(
        f"M{place + 0.5:.1f} {middle - half:.1f}v{2 * half:.1f}"
        for place, half in enumerate(heights)
    )


def _heard(wave: Wave) -> str:
    whole = formats.duration(round(wave.seconds, 2))
    shown = formats.duration(round(wave.heard, 2))
    length = f"the first {shown} of {whole}" if wave.heard < wave.seconds else whole
    peak = max(wave.peaks)
    return f"{length}, " + (f"peak {20 * math.log10(peak):.0f} dB" if peak else "silent")
