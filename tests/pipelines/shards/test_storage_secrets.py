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
    ],
)
def test_a_url_without_credentials_is_accepted(url):
    storage.refuse_secrets(url)


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
    ],
)
def test_signed_requests_are_hidden(text, hidden):
    assert storage.redact(text) == hidden


@pytest.mark.parametrize("error", [OSError(5, f"no {KEY}"), PermissionError(KEY), OSError(KEY)])
def test_no_message_repeats_a_secret(monkeypatch, error):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    with pytest.raises(StorageError) as caught, storage.explained(f"s3://bucket/{KEY}"):
        raise error
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
