"""Torch's tracer takes seconds to import: packages that only mention it are imported without, and find it when they need it."""

from __future__ import annotations

import subprocess
import sys

import pytest

TIMM = "from descend.models.timm_package import timm\n"
USES = {
    "nothing": (TIMM + "timm.create_model('resnet10t')", False),
    "an operator of torchvision": (
        TIMM
        + "import torchvision\n"
        + "boxes = torch.tensor([[0, 0.0, 0, 4, 4]])\n"
        + "assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).tolist() == [[[[1, 1], [1, 1]]]]",
        None,  # torchvision decides
    ),
    "compiling a model": (
        TIMM
        + "model = timm.create_model('resnet10t').eval()\n"
        + "x = torch.ones(1, 3, 64, 64)\n"
        + "assert torch.allclose(torch.compile(model, backend='eager')(x), model(x), atol=1e-5)",
        True,
    ),
    "a part that has no stand-in": (
        "with tracer_deferred():\n    from torch._dynamo.utils import counters\nassert isinstance(counters, dict)",
        True,
    ),
    "another module of the tracer": (
        "with tracer_deferred():\n    import torch._dynamo.config\nassert torch._dynamo.config.cache_size_limit > 0",
        True,
    ),
}


@pytest.mark.parametrize(("code", "loaded"), USES.values(), ids=USES)
def test_the_tracer_is_loaded_where_it_is_needed_and_only_there(code: str, loaded: bool | None) -> None:
    """In a process of its own: this one has loaded what other tests need."""
    begin = "import sys, torch\nfrom descend.untraced import tracer_deferred\n"
    script = f"{begin}{code}\nprint('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    if loaded is not None:
        assert done.stdout.split() == [str(loaded)]


def test_a_function_that_timm_marks_is_not_traced() -> None:
    """``torch.compiler.disable`` within the block becomes ``untraced``: the tracer breaks the graph there, as it would."""
    script = """
import sys, torch
from descend.untraced import tracer_deferred
with tracer_deferred():
    @torch.compiler.disable
    def marked(x):
        return x * 2 if "torch._dynamo" in sys.modules and not torch.compiler.is_compiling() else x * 0
assert "torch._dynamo" not in sys.modules
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
compiled = torch.compile(lambda x: marked(x + 1) + 1, backend=backend)
assert compiled(torch.ones(2)).tolist() == [5, 5]
assert len(graphs) == 2
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
