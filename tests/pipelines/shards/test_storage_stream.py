from __future__ import annotations

import io
import tarfile

import pytest

from pipelines.core import StorageError
from pipelines.shards import storage, storage_stream
from pipelines.shards.index import open_index

DATA = bytes(range(256)) * 10


@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize("data", [DATA, b"x"])
def test_a_file_is_read_whether_or_not_its_server_says_how_large_it_is(web, sizes, data):
    web.files["/a"], web.sizes = data, sizes
    with storage.open_read(f"{web.url}/a") as stream:
        assert stream.read(1) + stream.read() + stream.read(1) == data
    assert storage.read_bytes(f"{web.url}/a") == data
    assert storage.read_tail(f"{web.url}/a", 3) == data[-3:]
    assert storage.read_tail(f"{web.url}/a", 0) == b""


def test_one_that_is_too_large_to_hold_is_an_error_of_one_line(web, monkeypatch):
    monkeypatch.setattr(storage_stream, "_AHEAD", 1 << 20)
    web.files |= {"/small": bytes((1 << 20) - 1), "/large": bytes(1 << 20)}
    web.sizes = False
    assert len(storage.open_read(f"{web.url}/small").read()) == (1 << 20) - 1
    with pytest.raises(StorageError) as caught:
        storage.open_read(f"{web.url}/large")
    reason = "its server does not say how large it is, as it must from 1 MiB on; copy it elsewhere"
    assert str(caught.value) == f"{web.url}/large: {reason}"


def test_shards_of_such_a_server_are_indexed(web, tmp_path):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    web.files["/s.tar"], web.sizes = sink.getvalue(), False
    assert len(open_index(f"{web.url}/s.tar", str(tmp_path))) == 1
