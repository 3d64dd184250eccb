"""What a file is, from its first bytes: names lie, and a wrong one costs a sample in training."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.core import StorageError
from pipelines.packers._contract import Unreadable
from pipelines.shards import storage

IMAGE_NAMES = (".jpg", ".jpeg", ".png", ".webp")
VIDEO_NAMES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg")
IMAGE_BYTES = 1 << 28
_HEAD = 64
_OTHERS = {b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF"}
_BRANDS = {b"avif": "an AVIF", b"heic": "a HEIC", b"mif1": "a HEIC"}

Sniff = Callable[[bytes], str]
"""First bytes to the extension of a member; raises ``Unreadable``."""


def image_extension(head: bytes) -> str:
    """Tell ``jpg``, ``png`` and ``webp`` apart, which are what training reads.

    Raises:
        Unreadable: It is something else.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    kind = next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), None)
    kind = _BRANDS.get(head[8:12], kind) if head[4:8] == b"ftyp" else kind
    raise Unreadable(f"{kind or 'no image'}; JPEG, PNG or WebP is needed" if head else "empty")


def video_extension(head: bytes) -> str:
    """Tell containers apart: ``mp4``, ``mov``, ``webm``, ``mkv``, ``avi``, ``mpg``.

    Raises:
        Unreadable: It is something else.
    """
    if head[4:8] == b"ftyp" and head[8:12] not in _BRANDS:
        return "mov" if head[8:12] == b"qt  " else "mp4"
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):  # QuickTime before it had brands
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head else "mkv"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"\0\0\x01\xba"):
        return "mpg"
    raise Unreadable("no video; MP4, MOV, WebM, MKV, AVI or MPEG is needed" if head else "empty")


def read_media(url: str, sniff: Sniff, limit: int) -> tuple[str, bytes]:
    """Read a file whole, if its first bytes and its length say that it is worth it.

    Returns:
        The extension of its member, and its bytes.

    Raises:
        Unreadable: It is not, or it cannot be read.
    """
    try:
        # Of many that are missing, each would have its folder listed for a hint.
        with storage.explained(url, hint=False), storage.open_read(url, hint=False) as stream:
            head = stream.read(_HEAD)
            extension = sniff(head)
            data = head + stream.read(limit + 1 - len(head))
    except StorageError as error:
        raise Unreadable(f"cannot be read{_cause(str(error), url)}") from None
    if len(data) > limit:
        raise Unreadable(f"larger than {limit >> 20} MiB")
    return extension, data


def read_whole(url: str, limit: int) -> bytes:
    """Read a small file whole.

    Raises:
        Unreadable: It is larger than ``limit``, or cannot be read.
    """
    return read_media(url, lambda _: "", limit)[1]


def _cause(message: str, url: str) -> str:
    """The storage's reason without the place, so that equal reasons are counted as one."""
    return f" ({message.removeprefix(f'{url}: ').partition(';')[0]})"
