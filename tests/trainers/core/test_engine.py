from __future__ import annotations

import pytest

from pipelines.core import ConfigError, validate
from trainers.core.engine import EngineConfig, OptimizerConfig, check_together

REFUSED = [
    ({"zero_stage": 0, "offload": {"optimizer": "cpu"}}, "offload.optimizer needs zero_stage 1"),
    ({"zero_stage": 2, "offload": {"parameters": "cpu"}}, "offload.parameters needs zero_stage 3"),
    ({"zero_stage": 3, "offload": {"parameters": "nvme"}}, "offload.parameters: .*'none' or 'cpu'"),
    ({"zero_stage": 2, "offload": {"optimizer": "nvme", "folder": "/a"}}, "nvme needs zero_stage"),
    ({"zero_stage": 3, "offload": {"optimizer": "nvme"}}, "offload.folder need each other"),
    ({"zero_stage": 3, "offload": {"folder": "/a"}}, "offload.folder need each other"),
    ({"accumulate": 0}, "accumulate: .*greater than or equal to 1"),
    ({"precision": "fp8"}, "'fp32', 'bf16' or 'fp16'"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED)
def test_what_does_not_go_together_is_refused_when_it_is_read(data, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        validate(EngineConfig, data, "profile.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("kind", ["lamb", "muon"])
def test_an_optimizer_that_needs_whole_tensors_is_refused_where_they_are_split(
    kind: str, stage: int
) -> None:
    optimizer = OptimizerConfig.model_validate({"kind": kind})
    check_together(optimizer, EngineConfig())
    check_together(OptimizerConfig(), EngineConfig.model_validate({"zero_stage": stage}))
    with pytest.raises(ConfigError, match=f"{kind} needs whole tensors, and stage {stage} splits"):
        check_together(optimizer, EngineConfig.model_validate({"zero_stage": stage}))


@pytest.mark.parametrize(
    "data",
    [
        *({"ema": 1.0}, {"ema": -0.1}, {"rates": {"a": -1.0}}, {"kind": "sgd"}, {"momentum": 1}),
        *({"clip": -1}, {"betas": [0.9, 1.0]}, {"eps": 0}, {"learning_rate": -1}, {"warmup": -1}),
    ],
)
def test_values_out_of_range_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(data))):
        validate(OptimizerConfig, data, "recipe.yaml")
