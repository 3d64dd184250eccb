"""Which filesystem a URL names, and how object stores are spoken to."""

from __future__ import annotations

import inspect
import os
import posixpath
from functools import cache
from pathlib import Path
from typing import Any

import fsspec

from pipelines.core import StorageError, nearest
from pipelines.shards.storage_secrets import redact, refuse_secrets

SHIPPED = "eagleray://"
IN_FLIGHT = 32  # requests at once to one object store, from all threads of a process
_CONNECT = 10.0  # seconds
_TIMEOUT = "EAGLERAY_STORAGE_TIMEOUT"
_SLOWEST = 256 * 1024  # bytes a second; what is slower than that has stalled
_S3 = ("s3", "s3a")
_WEB = ("http", "https")
# They read within another file or filesystem, or in the URL itself.
_WITHIN = {
    "async_wrapper", "asyncwrapper", "blockcache", "cached", "data", "dir", "filecache", "generic",
    "libarchive", "reference", "simplecache", "tar", "zip",
}  # fmt: skip


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
    _check(protocol)
    if protocol in _WEB:
        from pipelines.shards.storage_web import Web  # its client takes time to import

        return Web()
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
        StorageError: The protocol is unknown, its package or a setting is
            missing, or the URL holds credentials.
    """
    refuse_secrets(url)
    url = resolve(url)
    protocol = fsspec.core.split_protocol(url)[0] or "file"
    try:
        fs = _filesystem(protocol)
        return fs, fs._strip_protocol(url)
    except StorageError as error:
        raise type(error)(redact(f"{url}: {error}")) from None
    except Exception as error:  # each filesystem has its own
        reason = f"'{protocol}' cannot be used: {_first_line(error)}"
        raise StorageError(redact(f"{url}: {reason}")) from None


def _check(protocol: str) -> None:
    """Refuse a protocol whose URLs do not say all that its filesystem has to know.

    Before it is made: some that are half made complain when they are taken away.
    """
    if protocol in _WITHIN or "::" in protocol:
        raise StorageError(
            f"'{protocol}' names no place of files by itself; give the URL of plain files"
        )
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise StorageError(f"'{protocol}' needs a package: {_first_line(error)}") from None
    except ValueError:
        known = {name for name in fsspec.available_protocols() if len(name) > 1} - _WITHIN
        raise StorageError(f"unknown protocol '{protocol}'; {nearest(protocol, known)}") from None
    given = fsspec.config.apply_config(kind, {})
    wanted = [
        f"FSSPEC_{protocol}_{name}".upper()
        for name, parameter in [*inspect.signature(kind.__init__).parameters.items()][1:]
        if parameter.default is parameter.empty
        and name not in given
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if wanted:
        raise StorageError(
            f"'{protocol}' cannot be used without settings; "
            f"set {' and '.join(wanted)} in the environment"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
