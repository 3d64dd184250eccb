"""A group of training workers: Ray Train, and what is set so that they have the cores first."""

from __future__ import annotations

import contextlib
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import ray.train
from ray._private.worker import get_dashboard_url
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import (
    PlacementGroupCleanerCallback,
)

from cluster.profile import Profile
from cluster.workforce import worker_resources
from pipelines.memory import kept_in_threads, shipped_jemalloc
from pipelines.stream import NICENESS
from trainers.held import HeldFolder
from trainers.worker import work

_ABORT = 15.0  # seconds


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray's, less actors that could do nothing here: each wakes 100 times a second.

    One hands data sets out, but the workers open their own. The other frees what a controller
    that died had reserved: it asks the dashboard every second, also where there is none.
    """

    def _create_default_callbacks(self) -> list[Any]:
        spared: tuple[type, ...] = (DatasetsCallback,)
        if not get_dashboard_url():
            spared += (PlacementGroupCleanerCallback,)
        found = super()._create_default_callbacks()
        return [callback for callback in found if not isinstance(callback, spared)]

    _controller: Any = None

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leave Ctrl-C to Python: the library's handler ends the process, as if all were well.

        It would also stay behind when the group is done.
        """
        self._controller = controller

    def abort(self) -> None:
        """End the group at once, where it has begun."""
        if self._controller is None:
            return
        # The controller ends itself, too; the end of the session ends one that does not answer.
        with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            ray.get(self._controller.abort.remote(), timeout=_ABORT)


def train_group(config: dict[str, Any], profile: Profile, workers: int) -> None:
    """Train with a group of workers until they are done, or one of them fails.

    Args:
        config: What ``work`` is told.
        profile: Where.
        workers: How many.

    Raises:
        ray.train.TrainingFailedError: A worker failed, or the group could not be started.
    """
    with closing(HeldFolder(Path(tempfile.gettempdir()), "eagleray-train-")) as held:
        trainer = _Trainer(
            work,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=profile.device == "cuda",
                resources_per_worker=worker_resources(profile),
            ),
            run_config=ray.train.RunConfig(
                name="run",
                storage_path=str(held.path),
                # The next attempt may have another number of workers, which is decided outside.
                failure_config=ray.train.FailureConfig(max_preemption_failures=0),
                worker_runtime_env={"env_vars": _environment(profile)},
            ),
        )
        try:
            trainer.fit()
        except KeyboardInterrupt:
            trainer.abort()
            raise


def _environment(profile: Profile) -> dict[str, str]:
    """What workers' processes have beside the driver's variables.

    Ray gives all that it starts a low priority (15). Training goes before its readers and before
    the library's own: where one of its threads is interrupted, all of an operation's wait for it.
    """
    # The library runs ``work`` in a thread; on a CPU its activations are large and come anew.
    jemalloc = shipped_jemalloc() if profile.device == "cpu" else None
    return {NICENESS: os.environ.get(NICENESS, "0"), **kept_in_threads(os.environ, jemalloc)}
