from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.core import StorageError
from pipelines.shards import storage

KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIAEXAMPLE:{KEY}@bucket/train.tar",
        "sftp://user:pass@host/train.tar",
        "http://user:12345678@host/train.tar",
        f"https://host/train.tar?X-Amz-Signature={KEY}",
        f"https://host/train.tar?versionId=1&X-Amz-Credential={KEY}",
        f"https://host/train.tar?AWSAccessKeyId={KEY}",
        f"https://account.blob.host/train.tar?sv=2024&sig={KEY}",
        f"https://host/{{a,b}}.tar?token={KEY}",
    ],
)
@pytest.mark.parametrize("act", [storage.locate, storage.expand, storage.listing, storage.exists])
def test_a_url_with_credentials_is_refused_and_not_repeated(url, act):
    with pytest.raises(StorageError, match="must not hold credentials; set them in the") as caught:
        act(url)
    message = str(caught.value)
    assert not any(secret in message for secret in (KEY, "K7MDENG", "pass@", "12345678"))
    assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a:b@c.tar",
        "s3://bucket/x?versionId=3",
        "sftp://user@host:22/a@b.tar",
        "sftp://host:22/a@b.tar",
        "abfs://container@account.dfs.core.windows.net/x:y@z.tar",
        "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/data/x@y.tar",
        "/data/a?token=1.tar",
        "https://host/user@example.com/x.tar",
        "https://host/@scope/pkg",
        "https://host:8080/@scope/pkg",
        "https://host.org:8080/user@example.com/x.tar",
        "http://localhost:9000/user@example.com/x.tar",
        "http://[::1]:9000/user@example.com/x.tar",
        "https://host?mail=a:b@c",
        "https://host/x?monkey=1&keys=2&author=3&compass=4&design=5",
        "az://container@account/x.tar",
        "sftp://user@host/x.tar",
        "hdfs://user@host:8020/x.tar",
        "s3://bucket/key=image/token=bert/x.tar",
    ],
)
def test_a_url_without_credentials_is_accepted(url):
    storage.refuse_secrets(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://S3CRET@host/x.tar",
        "https://ghp_S3CRET@raw.githubusercontent.com/o/r/x.tar",
        "s3://S3CRET@bucket/x.tar",
        "simplecache::https://S3CRET@host/x.tar",
        "https://user:123/S3CRET@host/x.tar",
        "https://user:p@ss/S3CRET@host/x.tar",
        "s3://AKIAEXAMPLE:12/S3CRET@bucket/x.tar",
        "sftp://user%3aS3CRET@host/x.tar",
        "https://host/x?jwt=S3CRET",
        "https://host/x?key=S3CRET",
        "https://host/x?%74oken=S3CRET",
        "https://host/x?private%2Dtoken=S3CRET",
        "https://host/x#access_token=S3CRET",
        "https://host/x;token=S3CRET",
        "https://host/x?from=https://host/y?token=S3CRET",
        *(f"https://host/x?a=1&{name}=S3CRET" for name in (
            "accessToken", "authToken", "apikey", "api_key", "access_key", "key", "client_secret",
            "pass", "passwd", "pwd", "auth", "private-token",
        )),
    ],
)  # fmt: skip
def test_what_is_refused_in_a_url_is_hidden_in_a_text(url):
    with pytest.raises(StorageError) as caught:
        storage.refuse_secrets(url)
    hidden = storage.redact(f"it cannot read '{url}', it says")
    for text in (str(caught.value), hidden):
        assert "***" in text
        assert not any(secret in text for secret in ("S3CRET", "ss/"))
    assert hidden.endswith("', it says")
    assert storage.redact(hidden) == hidden


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "DB_PASSWORD", "AZURE_STORAGE_SAS", "AZURE_ACCOUNT_KEY",
     "AZURE_STORAGE_CONNECTION_STRING", "SOME_CREDENTIAL", "WANDB_API_KEY", "aws_access_key_id"],
)  # fmt: skip
def test_values_of_secret_variables_are_hidden(monkeypatch, name):
    monkeypatch.setenv(name, KEY)
    assert storage.redact(f"key {KEY} and {KEY}!") == "key *** and ***!"
    assert storage.redact("wJalrXUtnFEMI%2FK7MDENG%2BbPxRfiCY.") == "***."


def test_what_is_no_secret_stays(monkeypatch, tmp_path: Path):
    file = tmp_path / "credentials.json"
    file.write_text("{}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("SOME_FOLDER", "/data/some/where")
    text = f"{file} is false in /data/some/where"
    assert storage.redact(text) == text


def test_a_secret_that_begins_with_another_is_hidden_whole(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "12345678")
    monkeypatch.setenv("B_TOKEN", "1234567890")
    assert storage.redact("<1234567890>") == "<***>"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("GET /x?X-Amz-Signature=abc123&v=1", "GET /x?X-Amz-Signature=***&v=1"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=y", "Authorization: ***"),
        ("x-amz-security-token: abc", "x-amz-security-token: ***"),
        ("failed at s3://k:se/cret@bucket/x", "failed at s3://***@bucket/x"),
        ("DefaultEndpoints;AccountKey=abc==;x", "DefaultEndpoints;AccountKey=***;x"),
        ("login(token='abc', name='x')", "login(token='***', name='x')"),
        ("url=https://h/x?apiKey=abc&v=1", "url=https://h/x?apiKey=***&v=1"),
        ("s3://k:v@b/x and s3://k:v@b/y", "s3://***@b/x and s3://***@b/y"),
    ],
)
def test_signed_requests_are_hidden(text, hidden):
    assert storage.redact(text) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "unreadable: key=image/1.jpg in train-0.tar",
        "PWD=/home/x, pass=2, auth=none",
        "write path.to.key=value",
        '{"a":"http://host:9000/x","b":"a@b/c"}',
        "http://head:8265/#/jobs, by a@b",
    ],
)
def test_texts_without_credentials_stay(text):
    assert storage.redact(text) == text


@pytest.mark.parametrize("error", [OSError(5, f"no {KEY}"), PermissionError(KEY), OSError(KEY)])
def test_no_message_repeats_a_secret(monkeypatch, error):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    with pytest.raises(StorageError) as caught, storage.explained(f"s3://bucket/{KEY}"):
        raise error
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
