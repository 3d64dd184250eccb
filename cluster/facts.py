"""``run.json``: what ran, where, with which versions, and where the time went."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from cluster.prepare import Prepared
from cluster.profile import Profile
from pipelines.available import available_cores
from pipelines.shards import storage
from trainers.meter import Clock
from trainers.recipe import Recipe

_PACKAGES = ("eagleray", "ray", "deepspeed", "torch", "transformers", "pyarrow")


class Facts:
    """Collects a run's facts and keeps ``run.json`` current; continues an earlier part's file."""

    def __init__(self, run: str, recipe: Recipe, profile: Profile, command: str):
        self._url = storage.join(run, "run.json")
        self._facts = self._earlier()
        self._clock = Clock()
        self._before = dict(self._facts.get("seconds") or {})
        self._facts |= {
            "name": run.rstrip("/").rpartition("/")[2],
            "recipe": recipe.name,
            "command": storage.redact(command),
            "finished": False,
            "world_size": profile.workers,
            "device": profile.device,
            "engine": profile.engine.model_dump(),
            "host": _host(profile),
            "versions": {name: version(name) for name in _PACKAGES}
            | {"python": platform.python_version()},
            "samples_planned": recipe.steps * recipe.global_batch,
        }
        self._facts.setdefault("started", _now())
        self._facts.setdefault("events", [])
        self.write()

    def event(self, samples: int, text: str) -> None:
        """Note something that happened; credentials in the text are hidden."""
        told = {"at": _now(), "samples": samples, "text": storage.redact(text)}
        self._facts["events"].append(told)
        self.write()

    def once(self, samples: int, text: str) -> None:
        """Note something that happened, if no earlier start of the run has."""
        noted = ((event["samples"], event["text"]) for event in self._facts["events"])
        if (samples, storage.redact(text)) not in noted:
            self.event(samples, text)

    def prepared(self, prepared: Prepared, recipe: Recipe) -> None:
        """Note the data set and the size of the model."""
        url = getattr(recipe.data.source, "url", None)
        self._facts["dataset"] = {
            "url": url,
            "samples": prepared.reader.order.size,
            "shards": prepared.shards,
            "digest": prepared.reader.source.digest,
        }
        self._facts["parameters"] = prepared.parameters
        self.write()

    def conclude(self, clock: Clock, samples: int, quarantined: int, workers: int) -> None:
        """Note how the run ended, with how many workers, and where its training time went."""
        train = clock.train or float("nan")
        self._facts |= {
            "finished": samples >= self._facts["samples_planned"],
            "samples_seen": samples,
            "world_size": workers,  # fewer than the profile's, where there was no room for them
            "samples_per_second": samples / train,
            "data_wait_share": clock.wait / train,
            "commit_share": clock.commit / train,
            "evaluation_pause_share": clock.evaluation / train,
            "quarantined": quarantined,
        }
        self._clock = clock
        self.write()

    def seconds(self, *, data: float, evaluate: float, total: float) -> None:
        """Note seconds of this part of the run; preparing and the whole add up over parts."""
        self._facts["seconds"] = {
            "data": data + (self._before.get("data") or 0.0),
            "train": self._clock.train,
            "evaluate": evaluate,
            "total": total + (self._before.get("total") or 0.0),
        }
        self.write()

    def stopped(self, clock: Clock, *, data: float, total: float) -> None:
        """Note seconds of a part that did not come to its end: a later one adds its own."""
        self._clock = clock
        self.seconds(data=data, evaluate=self._before.get("evaluate") or 0.0, total=total)

    def write(self) -> None:
        """Write the file."""
        storage.write_text(self._url, json.dumps(self._facts, indent=1))

    def _earlier(self) -> dict[str, Any]:
        if not storage.exists(self._url):
            return {}
        try:
            facts = json.loads(storage.read_text(self._url))
        except ValueError:
            return {}
        return facts if isinstance(facts, dict) else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _host(profile: Profile) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    accelerator = None
    if profile.device == "cuda":
        import torch

        accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA"
    return {
        "cpus": available_cores(),
        "memory_gib": round(memory, 1),
        "accelerator": accelerator,
    }
