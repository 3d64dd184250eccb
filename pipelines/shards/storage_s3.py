"""What S3 needs of its own: listings retried page by page, uploads retried part by part."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pipelines.shards.storage_faults import call, retried

PART = 64 << 20  # of an upload; S3 takes at least 5 MiB
_MOST_PARTS = 10_000
_AT_ONCE = 4

T = TypeVar("T")


def files(fs: Any, folder: str, stem: str) -> dict[str, dict[str, Any]]:
    """List the objects of a folder whose names begin with a stem: path to size and tag."""
    bucket, key, _ = fs.split_path(f"{folder}/")
    prefix = f"{key.rstrip('/')}/{stem}" if key else stem
    found: dict[str, dict[str, Any]] = {}
    for page in _pages(fs, Bucket=bucket, Prefix=prefix, Delimiter="/"):
        for entry in page.get("Contents", []):
            info = {"type": "file", "size": entry["Size"], "ETag": entry["ETag"]}
            if not entry["Key"].endswith("/"):  # a folder that some tool made an object
                found[f"{bucket}/{entry['Key']}"] = info
    return found


def remove_all(fs: Any, folder: str) -> None:
    """Remove all objects below a folder, one by one.

    Not by one request for many: some stores want a digest in it that the client
    does not send, and of what it did not remove the client says nothing.
    """
    bucket, key, _ = fs.split_path(folder)
    pages = _pages(fs, Bucket=bucket, Prefix=f"{key.rstrip('/')}/" if key else "")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def remove(key: str) -> dict[str, Any]:
        query = {"Bucket": bucket, "Key": key}
        return dict(retried(lambda: call(fs, "call_s3", "delete_object", **query)))

    _all(remove, keys)


def abort_uploads(fs: Any, folder: str) -> None:
    """Remove the parts of uploads below a folder that were never completed.

    No listing of objects shows them, and they are paid for until someone does.
    """
    bucket, key, _ = fs.split_path(folder)
    query: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else ""}
    found: list[dict[str, Any]] = []
    while True:
        page = retried(lambda: call(fs, "call_s3", "list_multipart_uploads", **query))
        found += page.get("Uploads", [])
        if not page.get("IsTruncated"):
            break
        query["KeyMarker"] = page["NextKeyMarker"]
        query["UploadIdMarker"] = page["NextUploadIdMarker"]

    def abort(upload: dict[str, Any]) -> dict[str, Any]:
        place = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        with contextlib.suppress(FileNotFoundError):  # it came to its end meanwhile
            retried(lambda: call(fs, "call_s3", "abort_multipart_upload", **place))
        return place

    _all(abort, found)


def _pages(fs: Any, **query: Any) -> Iterator[dict[str, Any]]:
    while True:
        page = retried(lambda: call(fs, "call_s3", "list_objects_v2", **query))
        yield page
        if not page.get("IsTruncated"):
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def upload(fs: Any, path: str, source: Path | bytes) -> None:
    """Upload much data in parts, each of which is tried again alone.

    The object appears when all parts are there; after a failure nothing is
    left of them.

    Args:
        fs: The filesystem.
        path: Path of the object.
        source: A local file, or the data.
    """
    bucket, key, _ = fs.split_path(path)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    length = max(PART, -(-size // _MOST_PARTS))
    place = {"Bucket": bucket, "Key": key}
    made = retried(lambda: call(fs, "call_s3", "create_multipart_upload", **place))
    place["UploadId"] = made["UploadId"]

    def send(number: int) -> dict[str, Any]:
        data = _part(source, (number - 1) * length, length)
        part = {"PartNumber": number, "Body": data}
        sent = retried(lambda: call(fs, "call_s3", "upload_part", size=len(data), **place, **part))
        return {"PartNumber": number, "ETag": sent["ETag"]}

    try:
        parts = _all(send, range(1, -(-size // length) + 1))
        _complete(fs, path, size, {**place, "MultipartUpload": {"Parts": parts}})
    except BaseException:
        retried(lambda: call(fs, "call_s3", "abort_multipart_upload", **place))
        raise


def _part(source: Path | bytes, start: int, length: int) -> bytes:
    if isinstance(source, bytes):
        return source[start : start + length]
    with source.open("rb") as stream:
        return os.pread(stream.fileno(), length, start)


def _all(act: Callable[[T], dict[str, Any]], given: Iterable[T]) -> list[dict[str, Any]]:
    """Do it for all, some at once; after a failure start no more of them."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        return list(pool.map(act, given))
    finally:
        pool.shutdown(cancel_futures=True)


def _complete(fs: Any, path: str, size: int, query: dict[str, Any]) -> None:
    try:
        retried(lambda: call(fs, "call_s3", "complete_multipart_upload", **query))
    except FileNotFoundError:
        # No such upload: the answer to an earlier try was lost. Our object ends in the number
        # of its parts.
        info = call(fs, "info", path)
        ending = f"-{len(query['MultipartUpload']['Parts'])}"
        if info["size"] != size or not info["ETag"].strip('"').endswith(ending):
            raise
