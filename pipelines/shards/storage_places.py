"""Which filesystem a URL names, and how object stores are spoken to."""

from __future__ import annotations

import os
import posixpath
from functools import cache
from pathlib import Path
from typing import Any

import fsspec

from pipelines.core import StorageError, nearest
from pipelines.shards.storage_secrets import refuse_secrets

SHIPPED = "eagleray://"
IN_FLIGHT = 32  # requests at once to one object store, from all threads of a process
_CONNECT = 10.0  # seconds
_TIMEOUT = "EAGLERAY_STORAGE_TIMEOUT"
_SLOWEST = 256 * 1024  # bytes a second; what is slower than that has stalled
_S3 = ("s3", "s3a")


def timeout(size: int = 0) -> float:
    """Seconds that one request may take: ``EAGLERAY_STORAGE_TIMEOUT`` (30), more for long ones.

    Args:
        size: Bytes that the request moves.
    """
    given = os.environ.get(_TIMEOUT, "30")
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise StorageError(f"{_TIMEOUT}: '{given}' is not a number of seconds above 0")
    return seconds + size / _SLOWEST


def resolve(url: str) -> str:
    """Turn ``eagleray://emoji/...`` into the place of the shipped data set; leave others alone."""
    if url.startswith(SHIPPED):
        return str(Path(__file__).parent.parent / "datasets" / url.removeprefix(SHIPPED))
    return url


@cache
def _filesystem(protocol: str) -> Any:
    if protocol not in _S3:
        return fsspec.filesystem(protocol)
    given = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    config = {
        "connect_timeout": min(_CONNECT, timeout()),
        "read_timeout": timeout(),  # without a byte
        "max_pool_connections": IN_FLIGHT,
        "retries": {"total_max_attempts": 1},
    }
    # Other processes write there too, so that a cached listing would be wrong.
    fs = fsspec.filesystem(protocol, config_kwargs={**given, **config}, use_listings_cache=False)
    fs.retries = 1  # two more layers that repeat would multiply the tries, and the time, of ours
    return fs


# An object store's client belongs to the process that made it.
os.register_at_fork(after_in_child=_filesystem.cache_clear)


def locate(url: str) -> tuple[Any, str]:
    """Return the filesystem of a URL and the path in it.

    Raises:
        StorageError: The protocol is unknown, its package is not installed, or
            the URL holds credentials.
    """
    refuse_secrets(url)
    url = resolve(url)
    protocol = fsspec.core.split_protocol(url)[0] or "file"
    try:
        fs = _filesystem(protocol)
    except (ValueError, ImportError):
        known = [name for name in fsspec.available_protocols() if len(name) > 1]
        raise StorageError(
            f"{url}: unknown protocol '{protocol}'; {nearest(protocol, known)}"
        ) from None
    return fs, fs._strip_protocol(url)


def join(url: str, *parts: str) -> str:
    """Append path parts to a URL."""
    return posixpath.join(url.rstrip("/") if url != "/" else url, *parts)


def is_local(fs: Any) -> bool:
    """Whether a filesystem is this machine's own."""
    return "file" in _protocols(fs)


def is_s3(fs: Any) -> bool:
    """Whether a filesystem is an object store that speaks S3."""
    return "s3" in _protocols(fs)


def is_web(fs: Any) -> bool:
    """Whether a filesystem is web servers, of whose folders many show nothing."""
    return "http" in _protocols(fs)


def _protocols(fs: Any) -> tuple[str, ...]:
    return fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)
