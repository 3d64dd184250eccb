"""One run at a time in a folder: a mark in it that its driver keeps fresh."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.core import StorageError, UserError
from pipelines.shards import storage

_BEAT = 15.0  # seconds between two changes of the mark
_LOOK = 2.5 * _BEAT  # seconds without one after which its driver counts as gone
_GLANCE = 1.0
Mark = dict[str, Any]


@contextmanager
def alone(run: str, say: Callable[[str], None], beat: float = _BEAT) -> Iterator[None]:
    """Keep other drivers out of a run's folder while the body runs.

    Two that start in the same moment are not told apart; what restarts on a schedule is. One that
    was away for so long that another took its place is interrupted.

    Args:
        run: The run's URL.
        say: Tells the user that this takes a while.
        beat: Seconds between two changes of the mark.

    Raises:
        UserError: Another driver is at work there.
    """
    url = storage.join(run, "alive.json")
    found = _read(url)
    if found and _at_work(found, url, say):
        raise UserError(
            f"{run}: another run is at work there, process {found.get('pid')} on "
            f"{found.get('host')}; wait for it or end it, or choose another --out"
        )
    mine = _mark()
    storage.write_text(url, json.dumps(mine))
    ended = threading.Event()
    keeper = threading.Thread(
        target=_keep, args=(url, mine, ended, beat, say), daemon=True, name="alive"
    )
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(_GLANCE)
        with contextlib.suppress(StorageError):  # a mark that stays is in nobody's way for long
            if _same(_read(url), mine):
                storage.remove(url)


def _mark() -> Mark:
    me = os.getpid()
    host = {"host": socket.gethostname(), "pid": me, "where": _where(), "born": _born(me)}
    return {"id": uuid.uuid4().hex, **host, "beat": 0}


def _same(one: Mark | None, other: Mark) -> bool:
    return one is not None and one.get("id") == other["id"]


def _read(url: str) -> Mark | None:
    """The mark; None where there is none, or none of a driver's."""
    if not storage.exists(url):
        return None
    try:
        mark = json.loads(storage.read_text(url))
    except ValueError:
        return None
    return mark if isinstance(mark, dict) else None


def _at_work(found: Mark, url: str, say: Callable[[str], None], look: float = _LOOK) -> bool:
    """Whether a mark's driver lives: seen at once on this machine, elsewhere by its beat."""
    if found.get("where") == _where() and found.get("born"):
        return bool(_born(found.get("pid")) == found["born"])
    say(f"{found.get('host')} left a mark in the run's folder: looking whether it is at work")
    deadline = time.monotonic() + look
    while time.monotonic() < deadline:
        time.sleep(_GLANCE)
        now = _read(url)
        if now is None or now != found:
            return now is not None
    return False


def _born(pid: object) -> str | None:
    """When a process of this machine started, in ticks since the machine did; None if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # one that is dead may not be cleared away


def _where() -> str | None:
    """This machine's start and this container's processes; None where the system tells neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _keep(
    url: str, mine: Mark, ended: threading.Event, beat: float, say: Callable[[str], None]
) -> None:
    while not ended.wait(beat):
        try:
            found = _read(url)
            if found is not None and not _same(found, mine):
                say(f"{found.get('host')} began a run in this folder: this one ends")
                _thread.interrupt_main()
                return
            mine["beat"] += 1
            storage.write_text(url, json.dumps(mine))
        except StorageError:
            continue  # a store that is down comes back; training tells if it does not
