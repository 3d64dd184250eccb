from __future__ import annotations

import re

import pytest

from pipelines.core import StorageError
from pipelines.shards import storage, storage_web
from tests.pipelines.shards.web import Web


def test_parts_of_a_file_come_as_they_are_asked_for(web: Web) -> None:
    web.files["/a"] = bytes(range(200))
    assert storage.read_ranges(f"{web.url}/a", [(3, 7), (190, 200), (5, 5)]) == [
        bytes(range(3, 7)),
        bytes(range(190, 200)),
        b"",
    ]


def test_a_server_that_sends_more_than_was_asked_for_is_not_listened_to(web: Web) -> None:
    web.files["/a"], web.ranges = bytes(64 << 20), False
    said = re.escape(f"{web.url}/a: its server sends more than the 4 bytes that were asked for")
    with pytest.raises(StorageError, match=rf"^{said}; it must be able to send parts"):
        storage.read_ranges(f"{web.url}/a", [(3, 7)])


def test_a_file_of_unknown_size_is_not_taken_without_end(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/a"], web.sizes = bytes(1000), False
    monkeypatch.setattr(storage_web, "MOST", 999)
    with pytest.raises(StorageError, match="more than the 999 bytes"):
        storage.read_bytes(f"{web.url}/a")
    monkeypatch.setattr(storage_web, "MOST", 1000)
    assert storage.read_bytes(f"{web.url}/a") == bytes(1000)


def test_what_comes_packed_is_not_unpacked_into_memory(web: Web) -> None:
    web.files["/a"], web.packed = bytes(64 << 20), True
    with pytest.raises(StorageError, match=r"/a: its server packs files \(gzip\)"):
        storage.read_bytes(f"{web.url}/a")
