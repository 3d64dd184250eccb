"""Metrics and the recipe in MLflow."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from pipelines import core
from pipelines.core.config import load_yaml
from pipelines.shards import storage
from pipelines.shards.url import Url
from trainers.core.tracker import TrackerConfig

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

_LOG = logging.getLogger(__name__)
_KEY = re.compile(r"[\w. /-]{1,200}")
_LONGEST = 6000  # characters of a parameter, by the server's limit
_METRICS, _PARAMETERS = 1000, 100  # of a request, by the server's limits
_PACKAGES = ("mlflow", "sqlalchemy")
_HELD = 100_000  # metrics that wait for a server to come back


class Mlflow:
    """Logs metrics and the recipe to ``RUN/mlflow.db`` or a tracking server.

    A run is one run of MLflow's, which a resumed run goes on with; artifacts that a user adds to
    it lie in ``RUN/mlflow-artifacts``, or where the server keeps them. MLflow cannot take back
    what it was told: lines after the commit stay in its history, and newer ones stand beside them
    at the same step. A server that does not answer is told of once, and training goes on.
    """

    class Config(TrackerConfig):
        """Where metrics go.

        Attributes:
            uri: Of a tracking server, or of a database at an absolute path; None for
                ``RUN/mlflow.db``. Credentials are taken from the environment, as
                MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
            experiment: Of MLflow's, made where it does not exist.
            interval: Seconds between requests; twelve times that after one that failed.
            timeout: Seconds that a request to a server may take.
        """

        uri: Url | None = None
        experiment: str = "eagleray"
        interval: float = Field(default=5.0, ge=0)
        timeout: int = Field(default=5, ge=1)

        @field_validator("uri")
        @classmethod
        def _absolute(cls, uri: str | None) -> str | None:
            if uri is not None and _relative(uri):
                raise ValueError(
                    f"'{uri}' is relative to a worker's folder, which is not kept; "
                    "give a server or an absolute path, such as sqlite:////data/mlflow.db"
                )
            return uri

        def check(self, run: str) -> None:
            """Refuse a run beside which no file can be, and an environment without MLflow."""
            # Not imported: that takes seconds.
            missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
            if missing:
                raise _uninstalled(f"no module named '{missing[0]}'")
            if self.uri is None:
                _file_beside(run)

    def __init__(self, config: Config, *, run: str, samples: int):
        """Start a run of MLflow's, or go on with the one of ``RUN/mlflow.json``.

        Raises:
            ConfigError: MLflow is not installed, or a file cannot be beside the run.
        """
        del samples
        _check_installed()
        self._run, self._config = run, config
        self._uri, self._artifacts = _beside(run) if config.uri is None else (config.uri, None)
        # The library's own patience, some minutes, would be training's.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(config.timeout))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        self._recipe = _recipe(run)
        self._held: deque[Metric] = deque(maxlen=_HELD)
        self._client: MlflowClient | None = None
        self._id, self._last, self._due = "", 0, 0.0
        self._warned = self._closed = False
        self.flush()

    def log(self, metrics: Mapping[str, float], *, samples: int) -> None:
        """Add a point to every metric's history, at the step ``samples``."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._held += [Metric(name, value, now, samples) for name, value in metrics.items()]
        self._last = samples
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Send what is held back; where the server fails, it is held on."""
        pause = self._config.interval
        try:
            self._send()
        except Exception as error:  # any fault of a server or of its library
            pause *= 12
            self._warn(error)
        self._due = time.monotonic() + pause

    def close(self) -> None:
        """Send what is held back, and say whether the run has come to its end."""
        if self._closed:
            return
        self._closed = True
        self.flush()
        whole = self._last >= self._recipe.get("samples", 0)
        try:
            if self._client is not None:
                self._client.set_terminated(self._id, "FINISHED" if whole else "FAILED")
        except Exception as error:
            self._warn(error)

    def _send(self) -> None:
        if self._client is None:
            self._client = self._begin()
        while self._held:
            some = [self._held[place] for place in range(min(_METRICS, len(self._held)))]
            self._client.log_batch(self._id, metrics=some)
            for _ in some:
                self._held.popleft()

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            reason = storage.redact(str(error).strip().partition("\n")[0])[:300]
            _LOG.warning("mlflow: metrics are not logged for now, training goes on (%s)", reason)
        self._warned = True

    def _begin(self) -> MlflowClient:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        place = storage.join(self._run, "mlflow.json")
        found = self._known(client, place)
        if found is None:
            experiment = client.get_experiment_by_name(self._config.experiment)
            number = (
                client.create_experiment(self._config.experiment, self._artifacts)
                if experiment is None
                else experiment.experiment_id
            )
            found = client.create_run(number, run_name=str(self._recipe.get("name", "eagleray")))
            storage.write_text(place, json.dumps({"run_id": found.info.run_id}))
        self._id = found.info.run_id
        self._describe(client)  # of a known run too: that may have failed, and twice is once
        return client

    def _known(self, client: MlflowClient, place: str) -> Run | None:
        from mlflow.exceptions import MlflowException

        if not storage.exists(place):
            return None
        try:
            found = client.get_run(str(json.loads(storage.read_text(place))["run_id"]))
            client.update_run(found.info.run_id, "RUNNING")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None  # of another server, or deleted
            raise
        except (ValueError, KeyError, TypeError):
            return None  # not what was written there
        return found

    def _describe(self, client: MlflowClient) -> None:
        from mlflow.entities import Param

        data = client.get_run(self._id).data
        known, given = data.params, dict(_flat("", self._recipe))
        # A parameter cannot be changed, and some values of a recipe may.
        for name, value in given.items():
            tag = f"eagleray.now.{name}"
            if data.tags.get(tag, known.get(name, value)) != value:
                client.set_tag(self._id, tag, value)
        parameters = [Param(name, value) for name, value in given.items() if name not in known]
        client.set_tag(self._id, "eagleray.run", storage.redact(self._run))
        for start in range(0, len(parameters), _PARAMETERS):
            client.log_batch(self._id, params=parameters[start : start + _PARAMETERS])


def _relative(uri: str) -> bool:
    """Whether a URI is of a file whose place depends on the folder of the process."""
    scheme, _, path = uri.rpartition(":") if "://" not in uri else uri.partition("://")
    if scheme.startswith("sqlite"):
        return not path.startswith("//")  # the first slash ends the host
    if scheme in ("", "file"):
        return not (path.startswith("/") or uri.startswith("databricks"))
    return False


def _check_installed() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow.tracking  # noqa: F401 to see whether it is there
        import sqlalchemy  # noqa: F401 which the file needs
    except ImportError as error:
        raise _uninstalled(str(error)) from None


def _uninstalled(why: str) -> core.ConfigError:
    return core.ConfigError(
        f"trackers: mlflow needs a package ({why}); pip install alembic mlflow-skinny sqlalchemy"
    )


def _file_beside(run: str) -> Path:
    fs, path = storage.locate(storage.join(run, "mlflow.db"))
    if not storage.is_local(fs):
        raise core.ConfigError(
            f"trackers: mlflow keeps a file beside local runs only, and {run} is none; "
            "set its uri to a tracking server"
        )
    return Path(path).resolve()


def _beside(run: str) -> tuple[str, str | None]:
    """URIs of the run's database and of its artifacts, beside its other files."""
    file = _file_beside(run)
    with storage.explained(run):
        file.parent.mkdir(parents=True, exist_ok=True)
    # MLflow's default for artifacts is the worker's folder, which is Ray's and not kept.
    return f"sqlite:///{file}", (file.parent / "mlflow-artifacts").as_uri()


def _recipe(run: str) -> dict[str, Any]:
    url = storage.join(run, "recipe.yaml")
    return dict(load_yaml(storage.read_text(url), url)) if storage.exists(url) else {}


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every value by its path; a mapping with keys that MLflow refuses is one value."""
    if isinstance(value, dict) and value and all(_KEY.fullmatch(str(key)) for key in value):
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for place, inner in enumerate(value):
            yield from _flat(f"{path}.{place}", inner)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        yield path, storage.redact(text)[:_LONGEST]
