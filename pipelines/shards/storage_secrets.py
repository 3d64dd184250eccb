"""Credentials stay in the environment: no URL holds one, and no message repeats one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from pipelines.core import StorageError

_HIDDEN = "***"
_INSTEAD = "set them in the environment (as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSPHRASE|CREDENTIAL|SAS|CONNECTION_STRING"
    r"|(?:ACCESS|ACCOUNT|API|PRIVATE)_?KEY",
    re.IGNORECASE,
)
_SHORTEST = 8  # a shorter value is a flag or a number, and would blank out half of a message
# The part before a host, to the last @: a password may hold one, and slashes, as AWS's secret keys
# do. ARNs have colons, too, and so has what begins with a bracket, an address of version 6. Lengths
# are bounded so that texts without a space do not take the square of theirs.
_TO_THE_AT = r"[^@\s]{0,2048}@(?:[^\s\"'<>]{0,2048}@)?"
_NAME = r"(?!arn:|\[)[^/?#@:\s]{0,2048}(?::|%3a)"
_A_PORT = r"\d{1,5}(?:$|[/?#\"'<>])"
# user:123/abc@host/x and host:22/a@b.tar look alike. Digits are a port's if the host has a dot, the
# @ begins a name, or no folder follows it.
_LIKE_A_HOST = r"[^\s\"'<>]{0,2048}[^/\s\"'<>]@[^/@\s\"'<>]+/"
_NO_PORT = rf"(?!localhost:)[^/?#@:.\s\[]{{1,2048}}:(?=\d{{1,5}}/{_LIKE_A_HOST})"
_USERINFO = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(://)(?:{_NAME}(?!{_A_PORT})|{_NO_PORT}){_TO_THE_AT}",
        rf"(\b(?:s3a?|gcs|gs)://){_NAME}{_TO_THE_AT}",  # buckets have no port
        # A token may be alone here; elsewhere that is a user's name (sftp), or a container (az).
        r"(\b(?:https?|s3a?|gcs|gs)://)(?!arn:)[^/?#\s\"'<>]{1,2048}@",
    )
]
# Names of parameters, which a text may assign to as well.
_PARAMETER = re.compile(
    r".*(?:token|secret|password|passwd|passphrase|signature|credentials?|googleaccessid)"
    r"|.*(?:access|account|api|private|secret)[-_]?key(?:[-_]?id)?"
    r"|(?:.*[^a-z\d])?(?:x-(?:amz|goog)-.+|sig|sas|jwt)",
    re.IGNORECASE,
)
# Words that mean a credential in a URL only: a text's "key=" is of a sample.
_IN_URL = re.compile(r"(?:.*[^a-z\d])?(?:auth|authorization|bearer|pass|pwd)", re.IGNORECASE)
_ASSIGNED = re.compile(r"(?<![\w%-])([\w%-]+)=['\"]?")
_VALUE = re.compile(r"[^&\s'\"<>;]+")
_HEADER = re.compile(r"\b(authorization['\"]?\s*[:=]|x-amz-[\w-]+['\"]?\s*:)[^\n]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace what looks like a credential by ``***``.

    Covers the values of this process's secret environment variables, what
    ``refuse_secrets`` finds in URLs, values assigned to a secret's name, and
    authorisation headers.
    """
    for value in _secrets():
        text = text.replace(value, _HIDDEN)
    for pattern in _USERINFO:
        text = pattern.sub(rf"\1{_HIDDEN}@", text)
    kept, end = [], 0
    for given in _assigned(text):
        kept += [text[end : given.start()], _HIDDEN]
        end = given.end()
    return _HEADER.sub(rf"\1 {_HIDDEN}", "".join(kept) + text[end:])


def refuse_secrets(url: str, instead: str = _INSTEAD) -> None:
    """Accept only a URL that holds no credential, since URLs are logged and kept.

    Args:
        url: The URL, or a pattern of some.
        instead: Where credentials belong, for the message.

    Raises:
        StorageError: It holds one; the message does not repeat it.
    """
    if "://" not in url:
        return
    # Elsewhere than in a parameter, "token=" may begin a folder's name.
    parameter = next(_assigned(url, anywhere=False), None)
    if parameter or any(pattern.search(url) for pattern in _USERINFO):
        raise StorageError(f"{redact(url)}: a URL must not hold credentials; {instead}")


def _assigned(text: str, anywhere: bool = True) -> Iterator[re.Match[str]]:
    """Values assigned to a secret's name, by a URL's parameters or ``anywhere`` in a text."""
    end = 0
    for found in _ASSIGNED.finditer(text):
        name, before = unquote(found[1]), text[found.start() - 1 : found.start()]
        parameter = before != "" and before in "?&;#"
        secret = bool(_PARAMETER.fullmatch(name)) and (anywhere or parameter)
        secret |= parameter and bool(_IN_URL.fullmatch(name))
        secret |= before in ("?", "&") and name.lower() == "key"
        if not secret or found.start() < end:
            continue
        value = _VALUE.match(text, found.end())
        if value:
            end = value.end()
            yield value


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
