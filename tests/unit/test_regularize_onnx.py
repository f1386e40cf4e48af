"""What leaves through ONNX is the test-time form of every layer."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from descend.regularize import DropBlock, DropConnectConv2d, DropConnectLinear, Dropout, GhostBatchNorm2d, StochasticDepth


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's exporter, about itself
def test_onnx_computes_the_expectation_of_every_layer(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        DropConnectConv2d(3, 4, 3, 0.4, activation="relu", inference="gaussian"),
        GhostBatchNorm2d(4, 4),
        DropBlock(0.2, size=2),
        Dropout(0.3, mode="classic", kind="channel"),
        StochasticDepth(0.6, mode="classic"),
        StochasticDepth(0.6, per="batch", mode="classic"),
        nn.Flatten(),
        Dropout(0.5),
        DropConnectLinear(16, 5, 0.5, activation="relu", inference="gaussian"),
        DropConnectLinear(5, 3, 0.5),
    ).eval()
    x = torch.randn(3, 3, 4, 4)
    torch.onnx.export(model, (x,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(np.asarray(answer), model(x).detach().numpy(), rtol=1e-4, atol=1e-6)
