"""Stochastic depth: unbiased, really skipping, and installed where the residual branches of a network end."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from descend import rng
from descend.errors import ModelError
from descend.models import Lite0, ResNet9, ResNet20, SmallCNN
from descend.regularize import StochasticDepth, StochasticDepthInBlocks, exact_average, expected_depth, linear_decay
from descend.regularize.residual_blocks import residual_blocks


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_mean_over_many_passes_is_the_test_output(mode, per):
    """Within 5 standard errors of n draws: one failure in 1.7 million."""
    p, n = 0.25, 3000
    layer, x = StochasticDepth(p, per=per, mode=mode), torch.full((1, 2), 2.0, dtype=torch.float64)
    mean = sum(layer(x) for _ in range(n)) / n
    scale = 1 / (1 - p) if mode == "inverted" else 1.0
    assert ((mean - layer.eval()(x)).abs() <= 5 * 2 * scale * (p * (1 - p) / n) ** 0.5).all()


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_mean_over_all_masks_is_the_test_output_exactly(mode, per):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.da, self.db = (StochasticDepth(p, per=per, mode=mode, stream=s) for p, s in ((0.2, "a"), (0.6, "b")))

        def forward(self, x):
            return self.db.residual(self.da.residual(x, self.a), self.b)  # all linear, so the expectation is exact

    torch.manual_seed(0)
    net, x = Net().double(), torch.randn(4, 3, dtype=torch.float64)
    exact = exact_average(net, x)
    assert exact.n_masks == 4
    torch.testing.assert_close(exact.logits, net.eval()(x).detach(), rtol=1e-12, atol=1e-14)


def test_samples_are_dropped_whole_by_their_ids():
    layer, x = StochasticDepth(0.5), torch.ones(64, 3, 2)
    ids = torch.randperm(10**6)[:64].numpy()
    with rng.context(0, 0, ids):
        y = layer(x)
    rows = y.flatten(1)
    assert ((rows == 0).all(1) | (rows == 2).all(1)).all()
    with rng.context(0, 3, ids[10:20]):
        assert torch.equal(layer(x[10:20]), y[10:20])


def test_a_dropped_batch_is_not_computed_and_a_kept_one_is_scaled():
    layer, calls = StochasticDepth(0.5, per="batch"), []

    def branch(x):
        calls.append(1)
        return x

    x, n = torch.ones(2, 3), 400
    answers = [float(layer.residual(x, branch)[0, 0]) for _ in range(n)]
    assert set(answers) == {1.0, 3.0}  # the shortcut alone, or 1 + 1 / (1 - p)
    assert answers.count(3.0) == len(calls)
    assert abs(len(calls) - n / 2) < 5 * (n / 4) ** 0.5


def test_linear_decay_has_the_papers_expected_depth():
    for n_blocks in (1, 9, 54):
        p = linear_decay(0.5, n_blocks)
        assert p[-1] == 0.5
        assert expected_depth(p) == pytest.approx((3 * n_blocks - 1) / 4, rel=1e-12)


MODELS = {
    "resnet18": (lambda: timm.create_model("resnet18", pretrained=False, num_classes=4), 8),
    "resnet26": (lambda: timm.create_model("resnet26", pretrained=False, num_classes=4), 8),
    "regnetx_002": (lambda: timm.create_model("regnetx_002", pretrained=False, num_classes=4), 13),
    "lite0": (lambda: Lite0(pretrained=False).build(0), 9),
    "convnext_atto": (lambda: timm.create_model("convnext_atto", pretrained=False, num_classes=4), 12),
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=4, img_size=64), 12),
    "resnet20": (lambda: ResNet20(width=8).build(0), 9),
    "resnet9": (lambda: ResNet9(width=8).build(0), 2),
}


@pytest.fixture(scope="module", params=MODELS)
def built(request):
    make, n_blocks = MODELS[request.param]
    torch.manual_seed(0)
    model = make()
    for name, p in model.named_parameters():  # zero-initialised last norms and tiny layer scales would hide the branches
        if p.ndim == 1 and name.endswith(("weight", "gamma")):
            nn.init.ones_(p)
    return model.eval(), n_blocks


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_installed_model_evaluates_as_before_and_drops_in_training(built, per):
    original, n_blocks = built
    model, x = copy.deepcopy(original), torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert len(residual_blocks(model)) == n_blocks
    names, reference = list(model.state_dict()), original(x)
    assert StochasticDepthInBlocks(last=0.9, per=per).install(model, 0) is model
    assert list(model.state_dict()) == names
    assert torch.equal(model(x), reference)
    layers = {m for m in model.modules() if isinstance(m, StochasticDepth)}
    assert max(layer.p for layer in layers) == pytest.approx(0.9)
    for layer in layers:
        layer.train()
    with torch.no_grad(), rng.context(0, 0, [1, 2, 3]):
        first = model(x)
        again = copy.deepcopy(model)(x)
    with torch.no_grad(), rng.context(1, 1, [1, 2, 3]):
        other = model(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dropping_every_branch_leaves_the_shortcuts(built):
    """With p next to 1 the per-sample form multiplies by zero and the per-batch form skips: the same network."""
    original, _ = built
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    outputs = []
    for form in ("sample", "batch"):
        model = copy.deepcopy(original)
        StochasticDepthInBlocks(last=0.5, per=form).install(model, 0)
        for m in model.modules():
            if isinstance(m, StochasticDepth):
                m.p = 1 - 1e-12
                m.train()
        with torch.no_grad():
            outputs.append(model(x))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs[0], original(x))


def test_skipped_blocks_run_nothing_of_their_branch():
    model = ResNet20(width=8).build(0)
    StochasticDepthInBlocks(last=0.9, per="batch").install(model, 0)
    computed = []
    blocks = residual_blocks(model)
    for name, block, _ in blocks:
        block.conv.register_forward_hook(lambda *_, name=name: computed.append(name))
    x, n = torch.randn(2, 3, 32, 32), 40
    model.train()
    for step in range(n):
        with rng.context(0, step, [1, 2]):
            model(x)
    expected = n * expected_depth(linear_decay(0.9, len(blocks)))
    assert abs(len(computed) - expected) < 5 * (n * len(blocks) / 4) ** 0.5
    model.eval()
    computed.clear()
    model(x)
    assert len(computed) == len(blocks)


def test_gradients_flow_and_twice_is_an_error():
    model = ResNet9(width=8).build(0)
    technique = StochasticDepthInBlocks(last=0.5, per="batch")
    technique.install(model, 0)
    model.train()(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "inner" not in name)
    with pytest.raises(ModelError, match="one drop layer"):
        technique.install(model, 0)
    with pytest.raises(ModelError, match="one drop layer"):
        technique.install(technique.install(timm.create_model("resnet10t", pretrained=False), 0), 0)


@pytest.mark.parametrize("name", ["resnet10t", "resnet26t", "regnetx_002"])
def test_a_skipped_block_leaves_alone_the_shortcut_that_autograd_keeps(name):
    """Timm's activations work in place, and the shortcut is the output of the block before, which its backward pass needs."""
    model = timm.create_model(name, pretrained=False, num_classes=3).train()
    StochasticDepthInBlocks(last=0.5, per="batch").install(model, 0)
    for m in model.modules():
        if isinstance(m, StochasticDepth):
            m.p = 1 - 1e-12
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert torch.isfinite(model.conv1[0].weight.grad if name.startswith("resnet") else model.stem.conv.weight.grad).all()


def test_a_block_that_is_not_what_it_looks_like_is_refused_per_batch_only():
    class Odd(nn.Module):  # looks like a plain residual block, and does something else beside its branch
        def __init__(self):
            super().__init__()
            self.conv, self.drop_path = nn.Conv2d(8, 8, 1), nn.Identity()

        def forward(self, x):
            return 2 * x + self.drop_path(self.conv(x))

    def net():
        return nn.Sequential(nn.Conv2d(3, 8, 1), Odd(), nn.Flatten(), nn.LazyLinear(2))

    model = net()
    StochasticDepthInBlocks().install(model, 0)
    assert isinstance(model[1].drop_path, StochasticDepth)
    model = net()
    with pytest.raises(ModelError, match=r"stochastic_depth: per='batch' must know .* got 'Odd'.*per='sample'"):
        StochasticDepthInBlocks(per="batch").install(model, 0)
    assert type(model[1]) is Odd
    assert type(model[1].drop_path) is nn.Identity


def test_a_network_without_branches_is_an_error():
    with pytest.raises(ModelError, match="residual blocks of a known kind"):
        StochasticDepthInBlocks().install(SmallCNN(width=8).build(0), 0)


def test_a_residual_block_computes_what_the_paper_says():
    """Block by block: relu(shortcut + m f(x) / (1 - p)), with m the layer's own draw."""
    model = ResNet20(width=4).build(0)
    blocks = residual_blocks(model)
    plain = copy.deepcopy([block for _, block, _ in blocks])
    StochasticDepthInBlocks(last=0.8).install(model, 3)
    x = torch.randn(6, 4, 8, 8)
    for (name, block, _), before, p in zip(blocks[:3], plain, linear_decay(0.8, 9), strict=False):
        dropped = rng.bernoulli(3, f"stochastic_depth/{name}.norm", ids=range(6), p=p, epoch=1)
        m = torch.from_numpy(~dropped).float().view(6, 1, 1, 1) / (1 - p)
        with rng.context(1, 0, range(6)):
            ours = _trained(block, x)
        branch = before.eval().norm(before.conv(before.first(x)))
        torch.testing.assert_close(ours, torch.relu(x + m * branch), rtol=1e-5, atol=1e-6)


def _trained(block, x):
    """Run a block with its drop layers in training form and its norms in evaluation form."""
    for module in block.modules():
        module.training = isinstance(module, StochasticDepth)
    return block(x)


class Plain(nn.Module):
    """A block of a network that builds it with and without a shortcut from one class, as timm's VoVNet and HGNet do."""

    def __init__(self, c, *, shortcut, asks):
        super().__init__()
        self.conv, self.drop_path, self.shortcut, self.asks = nn.Conv2d(c, c, 3, padding=1), nn.Identity(), shortcut, asks

    def forward(self, x):
        y = self.drop_path(self.conv(x)) if self.asks or self.shortcut else self.conv(x)
        return y + x if self.shortcut else y


def _mixed(*shortcuts, asks):
    torch.manual_seed(0)
    blocks = [Plain(4, shortcut=shortcut, asks=asks) for shortcut in shortcuts]
    return nn.Sequential(nn.Conv2d(3, 4, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("asks", [False, True])
def test_a_block_without_a_shortcut_keeps_its_branch(asks, per):
    model = StochasticDepthInBlocks(last=0.5, per=per).install(_mixed(False, True, False, True, asks=asks), 0)
    found = {name: m.p for name, m in model.named_modules() if isinstance(m, StochasticDepth)}
    assert found == {"2.drop_path": 0.25, "4.drop_path": 0.5}  # last * l / L over the blocks that have one
    with pytest.raises(ModelError, match=r"Sequential must have a block with a shortcut beside its branch, got '2 without'"):
        StochasticDepthInBlocks(last=0.5, per=per).install(_mixed(False, False, asks=asks), 0)


@pytest.mark.parametrize("name", ["hgnetv2_b0", "mobileone_s0", "efficientformerv2_s0"])
def test_layers_of_depth_are_reached_and_never_delete_the_picture(name):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=3).eval()
    StochasticDepthInBlocks(last=0.5).install(model, 0)
    layers, reached = [m for m in model.modules() if isinstance(m, StochasticDepth)], set()
    for layer in layers:
        layer.p = 1 - 1e-12
        layer.train().register_forward_hook(lambda module, *_: reached.add(module))
    size = model.pretrained_cfg["input_size"][-1] if name.startswith("efficientformer") else 64
    with torch.no_grad():
        ends = model.forward_features(torch.randn(2, 3, size, size))
    assert reached == set(layers)
    assert (ends[0] - ends[1]).abs().max() > 1e-6 * ends.abs().max()
