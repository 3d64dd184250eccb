"""Sending a training run to a cluster as a Ray job."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
from braceexpand import braceexpand
from ray.job_submission import JobStatus, JobSubmissionClient

import cluster
import pipelines
import trainers
from cluster.ray_jobs import client
from cluster.session import one_line
from pipelines.core import UserError
from pipelines.shards.url import urls_in
from trainers.recipe import Recipe

_PROJECT = "eagleray"
_PREFIX = re.compile(r"^(file|local):(//)?")
_PAUSE, _AWAY = 2.0, 600.0  # seconds between two looks, and without an answer at most
_ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


def submit(
    recipe: Recipe, profile_text: str, out: str, address: str, python: str = "python"
) -> str:
    """Send a run to a cluster; its packages travel along.

    Args:
        recipe: What to learn.
        profile_text: YAML of the profile.
        out: URL of the run, reachable from every node.
        address: URL of the cluster's dashboard.
        python: The interpreter on the cluster, with the project's dependencies.

    Returns:
        The job's name.

    Raises:
        UserError: The cluster does not answer, or ``out`` or data of the recipe mean another place
            on every node.
    """
    for place, pattern in [("--out", out), *urls_in(recipe)]:
        for url in braceexpand(pattern) if place != "--out" else [pattern]:
            _refuse_relative(place, url)
    name = f"eagleray-train-{recipe.name}-{uuid.uuid4().hex[:6]}"
    jobs = client(address)
    with tempfile.TemporaryDirectory(prefix="eagleray-submit-") as folder:
        pack(Path(folder), recipe, profile_text)
        jobs.submit_job(
            entrypoint=(
                f"{shlex.quote(python)} -m cluster train recipe.yaml --profile profile.yaml "
                f"--out {shlex.quote(out)}"
            ),
            submission_id=name,
            runtime_env={"working_dir": folder},
        )
    return name


def _refuse_relative(place: str, url: str) -> None:
    # By its text: this machine need not have what reads it.
    protocol, path = fsspec.core.split_protocol(url)
    if protocol in (None, "file", "local") and not Path(_PREFIX.sub("", path)).is_absolute():
        raise UserError(
            f"{place} {url}: a relative path means another folder on the cluster; "
            "give a URL or an absolute path that every node reaches"
        )


def pack(folder: Path, recipe: Recipe, profile_text: str) -> None:
    """Put the project's packages, their version, the recipe and the profile into a folder."""
    ignored = shutil.ignore_patterns("__pycache__", "_eagleray")
    for package in (pipelines, trainers, cluster):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, folder / source.name, ignore=ignored)
    # Nodes need not have the project installed: it is asked for its version and what it requires.
    installed = importlib.metadata.distribution(_PROJECT)
    about = folder / f"{_PROJECT}-{installed.version}.dist-info"
    about.mkdir()
    # As it was installed, or beside a checkout: parsed and written again, lines of the README
    # that look like headers are an error.
    text = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    (about / "METADATA").write_text(text, encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (folder / "profile.yaml").write_text(profile_text, encoding="utf-8")


def follow(name: str, address: str, say: Callable[[str], None]) -> None:
    """Repeat a job's log until it ends.

    Raises:
        UserError: It failed, with the last line of its log; or the cluster stopped answering.
    """
    jobs = client(address)
    shown, heard, away = 0, time.monotonic(), False
    while True:
        try:
            status = jobs.get_job_status(name)
            lines = _log_of(jobs, name, status)
        except (OSError, RuntimeError) as error:  # a network that fails ends no job
            if "does not exist" in str(error):  # a head that was started anew
                raise UserError(
                    f"the cluster at {address} knows no job {name} any more; submit it again with "
                    "the same --out, and it goes on from its last commit"
                ) from None
            if time.monotonic() - heard > _AWAY:
                raise UserError(
                    f"the cluster at {address} has not answered for {_AWAY:g} s; the job {name} "
                    f"may be going on ({one_line(error)})"
                ) from None
            if not away:
                say(f"the cluster does not answer; asking on ({one_line(error)})")
            away = True
            time.sleep(_PAUSE)
            continue
        heard, away = time.monotonic(), False
        for line in lines[shown:]:
            say(line)
        shown = len(lines)
        if status in _ENDED:
            break
        time.sleep(_PAUSE)
    if status is not JobStatus.SUCCEEDED:
        raise UserError(f"job {name} {status.value.lower()}; {_last(lines)}")


def _log_of(jobs: JobSubmissionClient, name: str, status: JobStatus) -> list[str]:
    try:
        return list(jobs.get_job_logs(name).splitlines())
    except (OSError, RuntimeError):
        if status not in _ENDED:
            raise
        return []  # how it ended is known


def _last(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "its log is empty")
