"""Numbers as people read them."""

from __future__ import annotations

import math
from datetime import datetime

NONE = "–"
_GAP = "\u202f"  # narrow no-break space: a number and its unit stay on one line


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def count(value: float | None) -> str:
    """A whole number: ``102,400``."""
    return f"{value:,.0f}" if value is not None and _known(value) else NONE


def compact(value: float) -> str:
    """A whole number on an axis: ``102k``, ``1.5M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def number(value: float | None) -> str:
    """A number to about four digits: ``1,204``, ``3.142``, ``3.0e-4``, ``1.250e7``."""
    if value is None or not _known(value):
        return NONE
    if value == 0:
        return "0"
    if round(abs(value)) >= 1e7 or abs(value) < 1e-3:
        digits, power = f"{value:.{3 if abs(value) > 1 else 1}e}".split("e")
        return f"{digits}e{int(power)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def _percent(value: float) -> str:
    percent = 100 * value
    size = abs(percent)
    if size == 0:
        return "0"
    return f"{percent:.1f}" if size >= 10 else f"{percent:.2f}" if size >= 0.1 else f"{percent:.2g}"


def share(value: float | None) -> str:
    """A share as per cent: ``18.4 %``."""
    return f"{_percent(value)}{_GAP}%" if value is not None and _known(value) else NONE


def axis_share(value: float) -> str:
    """A share on an axis: ``20%``."""
    return f"{100 * value:.4g}%"


def span(low: float, high: float, *, shares: bool) -> str:
    """An interval: ``17.1–19.8 %``."""
    if not (_known(low) and _known(high)):
        return NONE
    return f"{_percent(low)}–{share(high)}" if shares else f"{number(low)} to {number(high)}"


def times(value: float, chance: float) -> str:
    """How many times chance a value is, ``23 ×``; empty where chance is zero."""
    if not (_known(value) and _known(chance)) or chance <= 0 or value < 0:
        return ""
    ratio = value / chance
    return f"{ratio:,.0f}{_GAP}×" if ratio >= 10 else f"{ratio:.1f}{_GAP}×"


def duration(seconds: float | None) -> str:
    """A time: ``42 s``, ``3 min 20 s``, ``1 h 12 min``."""
    if seconds is None or not _known(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.3g}{_GAP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_GAP}min {rest}{_GAP}s"
    return f"{minutes // 60:,}{_GAP}h {minutes % 60}{_GAP}min"


def moment(text: str | None) -> str:
    """A time stamp: ``2026-11-24 01:54:03 UTC``; as it is where it is none."""
    try:
        stamp = datetime.fromisoformat(text or "")
    except ValueError:
        return text or NONE
    return stamp.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def metric(name: str) -> str:
    """A metric's name within a line: ``mean_iou`` is ``mean IoU``."""
    return "mean IoU" if name == "mean_iou" else name.replace("_", " ").strip()


def words(name: str) -> str:
    """A name in a sentence: ``zero_shot`` is ``Zero shot``."""
    if name == "knn":
        return "k-NN"
    text = metric(name)
    return text[:1].upper() + text[1:]
