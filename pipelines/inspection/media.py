"""Statistics of pictures, films and sounds, added up from their headers."""

from __future__ import annotations

from typing import Any

from pipelines.inspection.columns import Column, Histogram, Tally
from pipelines.inspection.headers import FilmHeader, PictureHeader, SoundHeader

# Sides that models are trained at, and their doubles.
EDGES = (32, 64, 128, 224, 256, 384, 512, 768, 1024, 2048, 4096)


class Sizes:
    """Widths and heights in pixels, and how the shorter of both is spread."""

    def __init__(self) -> None:
        self._width, self._height, self._shorter = Column(), Column(), Histogram(EDGES)

    def add(self, width: int, height: int) -> None:
        """Add a size."""
        self._width.add(width)
        self._height.add(height)
        self._shorter.add(min(width, height))

    def summary(self) -> dict[str, Any]:
        """``width``, ``height`` and ``shorter_side``."""
        return {
            "width": self._width.summary(),
            "height": self._height.summary(),
            "shorter_side": self._shorter.summary(),
        }


class Pictures:
    """Pictures."""

    def __init__(self) -> None:
        self._formats, self._sizes = Tally(), Sizes()
        self._kinds = dict.fromkeys(("grey", "alpha", "cmyk", "rotated"), 0)
        self._count = 0

    def add(self, header: PictureHeader) -> None:
        """Add a picture."""
        self._count += 1
        self._formats.add(header.format)
        self._sizes.add(header.width, header.height)
        for kind in self._kinds:
            self._kinds[kind] += getattr(header, kind)

    def summary(self) -> dict[str, Any] | None:
        """Facts, or None without pictures."""
        if not self._count:
            return None
        formats = self._formats.summary()
        return {"count": self._count, "formats": formats, **self._sizes.summary(), **self._kinds}


class Sounds:
    """Audio files, or the tracks of videos."""

    def __init__(self) -> None:
        self._codecs, self._rates, self._channels = Tally(), Tally(), Tally()
        self._seconds = Column()
        self._count = 0

    def add(self, header: SoundHeader) -> None:
        """Add a track."""
        self._count += 1
        self._codecs.add(header.codec)
        self._rates.add(str(header.rate))
        self._channels.add(str(header.channels))
        if header.seconds is not None:
            self._seconds.add(header.seconds)

    def summary(self) -> dict[str, Any] | None:
        """Facts, or None without a track."""
        if not self._count:
            return None
        return {
            "count": self._count,
            "codecs": self._codecs.summary(),
            "rates": self._rates.summary(),
            "channels": self._channels.summary(),
            "seconds": self._seconds.summary(),
        }


class Films:
    """Videos."""

    def __init__(self) -> None:
        self._codecs, self._sizes, self._sounds = Tally(), Sizes(), Sounds()
        self._rates, self._seconds = Column(), Column()
        self._count = self._silent = 0

    def add(self, header: FilmHeader) -> None:
        """Add a video."""
        self._count += 1
        self._codecs.add(header.codec)
        self._sizes.add(header.width, header.height)
        if header.rate is not None:
            self._rates.add(header.rate)
        if header.seconds is not None:
            self._seconds.add(header.seconds)
        if header.sound is None:
            self._silent += 1
        else:
            self._sounds.add(header.sound)

    def summary(self) -> dict[str, Any] | None:
        """Facts, or None without videos."""
        if not self._count:
            return None
        return {
            "count": self._count,
            "codecs": self._codecs.summary(),
            **self._sizes.summary(),
            "frames_per_second": self._rates.summary(),
            "seconds": self._seconds.summary(),
            "with_audio": self._count - self._silent,
            "without_audio": self._silent,
            "audio": self._sounds.summary(),
        }
