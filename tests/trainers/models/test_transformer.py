from __future__ import annotations

import pytest
import torch

from trainers.blocks import compile_by
from trainers.models._transformer import encoder


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of Dynamo's own looking
def test_layers_are_compiled() -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    plain = encoder(32, 3, 4)
    states = torch.rand(2, 5, 32)
    expected = plain(states)
    torch._dynamo.reset()
    compile_by(torch.nn.ModuleDict({"tower": plain}), backend)  # type: ignore[arg-type]
    torch.testing.assert_close(plain(states), expected)
    assert graphs
