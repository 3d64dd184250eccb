from __future__ import annotations

import errno
import threading
from collections import Counter

import pytest

from pipelines.core import StorageError
from pipelines.shards import storage, storage_places, storage_s3

PART = 10


class FakeS3:
    """An object store of three objects a page, which raises what is planned for a request."""

    protocol = ("s3", "s3a")
    async_impl = False

    def __init__(self) -> None:
        self.objects = {f"d/s-{number:02d}.tar": b"x" * number for number in range(10)}
        self.objects |= {"d/": b"", "d/other.txt": b""}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.before: dict[object, list[Exception]] = {}
        self.after: dict[object, list[Exception]] = {}
        self.calls: Counter[str] = Counter()

    @staticmethod
    def _strip_protocol(url):
        return url.removeprefix("s3://").rstrip("/")

    def unstrip_protocol(self, path):
        return f"s3://{path}"

    def split_path(self, path):
        bucket, _, key = path.rstrip("/").partition("/")
        return bucket, key, None

    def ls(self, path, detail=False):
        return [f"b/{key}" for key in self.objects]

    def info(self, path):
        data = self.objects[path.removeprefix("b/")]
        return {"size": len(data), "ETag": self.tag, "type": "file"}

    def call_s3(self, method, **query):
        self.calls[method] += 1
        mark = query.get("PartNumber") or query.get("ContinuationToken") or method
        if self.before.get(mark):
            raise self.before[mark].pop(0)
        found = getattr(self, method)(**query)
        if self.after.get(mark):
            raise self.after[mark].pop(0)
        return found

    def list_objects_v2(self, Bucket, Prefix, Delimiter="", ContinuationToken="0"):
        keys = sorted(key for key in self.objects if key.startswith(Prefix))
        start = int(ContinuationToken)
        page = [
            {"Key": key, "Size": len(self.objects[key]), "ETag": f'"{key}"'}
            for key in keys[start : start + 3]
        ]
        more = start + 3 < len(keys)
        following = {"NextContinuationToken": str(start + 3)} if more else {}
        return {"Contents": page, "IsTruncated": more, **following}

    def delete_object(self, Bucket, Key):
        self.objects.pop(Key, None)
        return {}

    def create_multipart_upload(self, Bucket, Key):
        self.uploads[Key] = {}
        return {"UploadId": Key}

    def upload_part(self, Bucket, Key, UploadId, PartNumber, Body):
        self.uploads[UploadId][PartNumber] = Body
        return {"ETag": f"tag-{PartNumber}"}

    def complete_multipart_upload(self, Bucket, Key, UploadId, MultipartUpload):
        if UploadId not in self.uploads:
            raise FileNotFoundError("no such upload")
        parts = self.uploads.pop(UploadId)
        numbers = [part["PartNumber"] for part in MultipartUpload["Parts"]]
        assert [part["ETag"] for part in MultipartUpload["Parts"]] == [f"tag-{n}" for n in numbers]
        self.objects[Key] = b"".join(parts[number] for number in numbers)
        self.tag = f'"0123-{len(numbers)}"'

    def abort_multipart_upload(self, Bucket, Key, UploadId):
        self.uploads.pop(UploadId, None)

    def list_multipart_uploads(self, Bucket, Prefix, KeyMarker="", UploadIdMarker=""):
        keys = sorted(k for k in self.uploads if k.startswith(Prefix) and k > KeyMarker)
        page = [{"Key": key, "UploadId": key} for key in keys[:2]]
        more = len(keys) > 2
        following = {"NextKeyMarker": keys[1], "NextUploadIdMarker": keys[1]} if more else {}
        return {"Uploads": page, "IsTruncated": more, **following}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    fake = FakeS3()
    monkeypatch.setattr(storage_places, "_filesystem", lambda protocol: fake)
    monkeypatch.setattr(storage_s3, "PART", PART)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return fake


def busy(count: int = 1) -> list[Exception]:
    return [OSError(errno.EBUSY, "Please reduce your request rate.") for _ in range(count)]


@pytest.mark.parametrize("pattern", ["s3://b/d/s-*.tar", "s3://b/d/s-{00..09}.tar"])
def test_a_listing_of_many_pages_repeats_only_the_page_that_failed(store, pattern):
    store.before = {"list_objects_v2": busy(), "6": busy(3)}
    listed = storage.listing(pattern)
    assert listed == [(f"s3://b/d/s-{n:02d}.tar", f'{n}:"d/s-{n:02d}.tar"') for n in range(10)]
    assert store.calls == {"list_objects_v2": 4 + 1 + 3}


def test_a_folder_that_is_an_object_is_no_file(store):
    assert storage.expand("s3://b/d/*")[0] == "s3://b/d/other.txt"
    assert len(storage.expand("s3://b/d/*")) == 11


@pytest.mark.parametrize("size", [PART + 1, 4 * PART, 5 * PART + 3])
@pytest.mark.parametrize("from_file", [True, False])
def test_only_parts_that_failed_are_sent_again(store, tmp_path, size, from_file):
    data = bytes(range(size))
    store.before = {2: busy(3), "create_multipart_upload": busy()}
    store.after = {1: [ConnectionResetError("the answer was lost")]}
    if from_file:
        (tmp_path / "source").write_bytes(data)
        storage.move_in(tmp_path / "source", "s3://b/new")
    else:
        storage.write_atomic("s3://b/new", data)
    assert store.objects["new"] == data
    assert store.uploads == {}
    assert store.calls["upload_part"] == -(-size // PART) + 4
    assert store.calls["create_multipart_upload"] == 2


def test_a_lost_answer_to_the_last_request_is_no_failure(store):
    store.after = {"complete_multipart_upload": [ConnectionResetError("lost")]}
    storage.write_atomic("s3://b/new", bytes(25))
    assert store.objects["new"] == bytes(25)


def test_another_object_in_its_place_is_a_failure(store):
    def taken(**_):
        store.objects["new"], store.tag = bytes(25), '"another"'
        raise FileNotFoundError("no such upload")

    store.complete_multipart_upload = taken
    with pytest.raises(StorageError, match="s3://b/new: does not exist"):
        storage.write_atomic("s3://b/new", bytes(25))


@pytest.mark.parametrize("error", [PermissionError("x"), OSError(errno.EBUSY, "busy")])
def test_a_failed_upload_leaves_the_old_object_and_no_parts(store, error):
    store.objects["new"] = b"old"
    store.before = {3: [error] * 100, "abort_multipart_upload": busy()}
    with pytest.raises(StorageError):
        storage.write_atomic("s3://b/new", bytes(100 * PART))
    assert store.objects["new"] == b"old"
    assert store.uploads == {}


def test_an_interrupted_upload_leaves_no_parts(store, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage_s3, "_complete", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.write_atomic("s3://b/new", bytes(25))
    assert store.uploads == {}
    assert "new" not in store.objects


def test_parts_of_uploads_that_were_never_completed_go(store):
    store.uploads = {f"run/checkpoints/{n}": {1: b"x"} for n in range(5)}
    store.uploads |= {"run/checkpoints-of-others": {}, "other": {}}
    store.before = {"list_multipart_uploads": busy(), "abort_multipart_upload": busy()}
    storage.remove_unfinished("s3://b/run/checkpoints")
    assert sorted(store.uploads) == ["other", "run/checkpoints-of-others"]
    assert store.calls["list_multipart_uploads"] == 4  # one was refused


def test_who_may_not_list_uploads_is_told(store):
    store.before = {"list_multipart_uploads": [PermissionError("x")]}
    with pytest.raises(StorageError, match="access refused"):
        storage.remove_unfinished("s3://b/run/checkpoints")


def test_a_folder_goes_object_by_object_and_no_other_with_it(store):
    store.objects |= {"d": b"", "dd/x": b"", "d/deep/er": b""}
    store.before = {"delete_object": busy(2), "3": busy()}
    storage.remove_folder("s3://b/d")
    assert store.objects == {"d": b"", "dd/x": b""}
    storage.remove_folder("s3://b/none")
    store.objects["d/x"] = b""
    store.before = {"delete_object": [PermissionError("x")]}
    with pytest.raises(StorageError, match="access refused"):
        storage.remove_folder("s3://b/d")


MANY = "s3://b/d/s-{00..09}.tar"


def test_of_a_folder_that_may_not_be_listed_each_name_is_asked_for(store):
    store.before, store.tag = {"list_objects_v2": [PermissionError("x")] * 2}, '"tag"'
    assert storage.listing(MANY) == [(f"s3://b/d/s-{n:02d}.tar", f'{n}:"tag"') for n in range(10)]
    with pytest.raises(StorageError, match="access refused"):
        storage.listing("s3://b/d/s-*.tar")


def test_who_is_refused_each_name_too_is_told_soon(store):
    def refuse(path):
        asked.append(path)
        threading.Event().wait(0.01)
        raise PermissionError("x")

    asked: list[str] = []
    store.before, store.info = {"list_objects_v2": [PermissionError("x")]}, refuse
    with pytest.raises(StorageError, match=r"s-000\.tar: access refused"):
        storage.listing("s3://b/d/s-{000..999}.tar")
    assert len(asked) < 100


def test_what_a_listing_lacks_is_not_asked_for(store):
    store.info = lambda path: pytest.fail("asked for")
    del store.objects["d/s-05.tar"]
    with pytest.raises(StorageError, match=r"s-05\.tar: does not exist"):
        storage.listing(MANY)
