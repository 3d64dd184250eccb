from __future__ import annotations

import signal

import pytest

from cluster import worker_group
from cluster.profile import Profile
from cluster.worker_group import _environment, _Trainer
from pipelines.stream import NICENESS


@pytest.mark.parametrize(
    ("dashboard", "cleans"), [("127.0.0.1:8265", True), (None, False), ("", False)]
)
def test_actors_that_could_do_nothing_are_left_out(
    dashboard: str | None, cleans: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_group, "get_dashboard_url", lambda: dashboard)
    trainer = _Trainer(print)
    names = {type(callback).__name__ for callback in trainer._create_default_callbacks()}
    assert "DatasetsCallback" not in names
    assert ("PlacementGroupCleanerCallback" in names) == cleans
    assert "BackendSetupCallback" in names


def test_training_has_the_cores_first_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(NICENESS, raising=False)
    assert _environment(Profile(device="cpu"))[NICENESS] == "0"
    assert "LD_PRELOAD" not in _environment(Profile(device="cuda"))
    monkeypatch.setenv(NICENESS, "5")
    assert _environment(Profile(device="cuda"))[NICENESS] == "5"


def test_an_interrupt_ends_the_group_and_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    class Controller:
        class abort:
            @staticmethod
            def remote() -> None:
                ended.append("aborted")

    def fit(trainer: _Trainer) -> None:
        handler = signal.getsignal(signal.SIGINT)
        trainer._register_sigint_handler(Controller())
        assert signal.getsignal(signal.SIGINT) is handler
        raise KeyboardInterrupt

    monkeypatch.setattr(worker_group.ray, "get", lambda *_, **__: None)
    monkeypatch.setattr(_Trainer, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        worker_group.train_group({}, Profile(device="cpu"), 1)
    assert ended == ["aborted"]
