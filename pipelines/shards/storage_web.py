"""Web servers, of whom no more is taken than was asked for: nobody knows who answers."""

from __future__ import annotations

from typing import Any

from fsspec.implementations.http import HTTPFileSystem

from pipelines.core import StorageError
from pipelines.shards.storage_secrets import redact

MOST = 256 << 20  # bytes of a file whose server does not say how large it is


class Web(HTTPFileSystem):  # type: ignore[misc]
    """Like the library's, which takes whatever comes, unpacked, into memory."""

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        first = start or 0
        if end == first:
            return b""
        headers = {**self.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if start is not None or end is not None:
            headers["Range"] = f"bytes={first}-{'' if end is None else end - 1}"
        asked = {**self.kwargs, **options, "headers": headers, "auto_decompress": False}
        session = await self.set_session()
        async with session.get(self.encode_url(url), **asked) as answer:
            self._raise_not_found_for_status(answer, url)
            try:
                return await _bounded(answer, MOST if end is None else end - first)
            except StorageError as error:
                raise StorageError(redact(f"{url}: {error}")) from None


async def _bounded(answer: Any, most: int) -> bytes:
    packed = answer.headers.get("Content-Encoding", "identity")
    if packed != "identity":
        raise StorageError(f"its server packs files ({packed[:20]}) that are to come as they are")
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > most:
            raise StorageError(
                f"its server sends more than the {most:,} bytes that were asked for; "
                "it must be able to send parts of files (ranges)"
            )
    return bytes(data)
