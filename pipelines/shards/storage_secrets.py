"""Credentials stay in the environment: no URL holds one, and no message repeats one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pipelines.core import StorageError

_HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSPHRASE|CREDENTIAL|SAS|CONNECTION_STRING"
    r"|(?:ACCESS|ACCOUNT|API|PRIVATE)_?KEY",
    re.IGNORECASE,
)
_SHORTEST = 8  # a shorter value is a flag or a number, and would blank out half of a message
# user:password@ before the host. Not a port (host:22/a@b), and not an ARN. A secret key of AWS
# may hold slashes, so the part before the @ is not cut at one.
_USERINFO = re.compile(r"://(?!arn:)[^/@:\s]*:(?!\d+(?:/|$))[^@\s]*@")
_PARAMETER = (
    r"x-(?:amz|goog)-[\w-]+|awsaccesskeyid|googleaccessid|signature|sig|sas|(?:\w+_)?token"
    r"|secret|password|accountkey|sharedaccesssignature"
)
_SIGNED = re.compile(rf"[?&](?:{_PARAMETER})=", re.IGNORECASE)
_ASSIGNED = re.compile(rf"\b({_PARAMETER})=[^&\s'\"<>;]+", re.IGNORECASE)
_HEADER = re.compile(r"\b(authorization['\"]?\s*[:=]|x-amz-[\w-]+['\"]?\s*:)[^\n]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace what looks like a credential by ``***``.

    Covers the values of this process's secret environment variables, signed
    query parameters, ``user:password@`` and authorisation headers.
    """
    for value in _secrets():
        text = text.replace(value, _HIDDEN)
    text = _USERINFO.sub(f"://{_HIDDEN}@", text)
    text = _ASSIGNED.sub(rf"\1={_HIDDEN}", text)
    return _HEADER.sub(rf"\1 {_HIDDEN}", text)


def refuse_secrets(url: str) -> None:
    """Accept only a URL that holds no credential, since URLs are logged and kept.

    Raises:
        StorageError: It holds one; the message does not repeat it.
    """
    if "://" in url and (_USERINFO.search(url) or _SIGNED.search(url)):
        raise StorageError(
            f"{redact(url)}: a URL must not hold credentials; "
            "set them in the environment (as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )


def _secrets() -> Iterator[str]:
    """Secret values, the longest first: one may begin with another."""
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name) and not _is_file(value)
    }
    for value in sorted(values, key=len, reverse=True):
        yield value
        yield quote(value, safe="")


def _is_file(value: str) -> bool:
    """Variables such as GOOGLE_APPLICATION_CREDENTIALS hold a path, which a message must name."""
    return len(value) < 256 and Path(value).is_file()
