"""Where techniques put their layers: in our backbones, in timm's models, in a plain chain, and never in two places."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from descend import rng
from descend.errors import KnobError, ModelError
from descend.models import Classifier, Lite0, ResNet9, ResNet20
from descend.regularize import (
    L1,
    DropBlock,
    DropBlockAfterStages,
    DropConnect,
    DropConnectConv2d,
    DropConnectLinear,
    Dropout,
    DropoutBeforeHead,
    GhostBatchNorm,
    KLSparsity,
    SpatialDropout,
    StochasticDepthInBlocks,
    hold_in_eval,
    install_all,
    set_norm_policy,
)
from descend.regularize.install import drop_input, drop_output, runs_its_children
from descend.transfer import FineTuning


@pytest.fixture
def lite0():
    backbone = Lite0(pretrained=False).build(0)
    return Classifier(backbone, nn.Sequential(nn.Linear(backbone.n_features, 8), nn.ReLU(), nn.Linear(8, 3))).eval()


def places(model, kind):
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_our_backbones_get_layers_after_their_stages(lite0):
    stages = [name for name in lite0.backbone.stage_names if name not in ("stem", "head")]
    SpatialDropout(p=0.3).install(lite0, 0)
    found = places(lite0, Dropout)
    assert len(found) == len(stages)
    for place, name in zip(found, stages, strict=True):
        last = list(lite0.backbone.stages.get_submodule(name).named_modules())
        assert place.startswith(f"backbone.stages.{name}.")
        assert any(place == f"backbone.stages.{name}.{inner}.drop_output" for inner, _ in last)
    with pytest.raises(ModelError, match="one drop layer must stand in one place"):
        DropBlockAfterStages().install(lite0, 0)


def test_drop_block_takes_the_last_two_stages(lite0):
    DropBlockAfterStages(size=2).install(lite0, 0)
    stages = [name for name in lite0.backbone.stage_names if name not in ("stem", "head")]
    assert [name.split(".")[2] for name in places(lite0, DropBlock)] == stages[-2:]


def test_every_place_has_a_stream_of_its_own(lite0):
    SpatialDropout().install(lite0, 5)
    DropoutBeforeHead().install(lite0, 5)
    layers = [m for m in lite0.modules() if isinstance(m, Dropout)]
    assert len({layer.source.stream for layer in layers}) == len(layers)
    assert {layer.source.seed for layer in layers} == {5}


def test_dropout_stands_before_the_head_and_only_there(lite0):
    features = lite0.backbone(X).detach()
    DropoutBeforeHead(p=0.5).install(lite0, 0)
    lite0.head.train()
    with rng.context(0, 0, [1, 2]):
        whole, head_alone = lite0(X), lite0.head(features)
    assert torch.equal(whole, head_alone)  # so it works on cached features too
    layer = lite0.head[0].drop_input
    with rng.context(0, 0, [1, 2]):
        expected = lite0.head[2](lite0.head[1](nn.functional.linear(layer(features), lite0.head[0].weight, lite0.head[0].bias)))
    torch.testing.assert_close(whole, expected, rtol=1e-6, atol=1e-6)


def test_a_chain_runs_its_layers_once():
    """A chain runs all its children, so a layer attached to it by name would run a second time, at the end."""
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), nn.Linear(6, 6))
    weights = [p.detach() for p in chain.parameters()]
    drop_input(chain, Dropout(0.5, stream="in"))
    drop_output(chain, Dropout(0.5, stream="out"))
    x = torch.randn(4, 6)
    with rng.context(0, 0, [1, 2, 3, 4]):
        answer = chain(x)
        expected = Dropout(0.5, stream="in")(x)
        for weight, bias in zip(weights[::2], weights[1::2], strict=True):
            expected = nn.functional.linear(expected, weight, bias)
        expected = Dropout(0.5, stream="out")(expected)
    torch.testing.assert_close(answer, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ModelError, match="must call its children by their names"):
        drop_input(nn.Sequential(), Dropout(0.5))


def test_depth_and_channels_go_into_one_network_in_either_order():
    answers = []
    for order in ((SpatialDropout(), StochasticDepthInBlocks()), (StochasticDepthInBlocks(), SpatialDropout())):
        model = ResNet9(width=4).build(0)
        for technique in order:
            technique.install(model, 0)
        with rng.context(0, 0, [1, 2]):
            answers.append(model.train()(X))
    assert torch.equal(*answers)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "efficientvit_b0"])
def test_timms_own_dropout_before_the_head_is_replaced_not_doubled(name):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=3, drop_rate=0.9).eval()
    silent = model(X)
    DropoutBeforeHead(p=0.0).install(model, 0)
    for m in model.modules():
        m.training = not isinstance(m, nn.BatchNorm2d)
    assert torch.equal(model(X), silent)


def test_the_dropout_of_a_plain_chain_is_replaced_in_that_place_only():
    chain = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 2))
    DropoutBeforeHead(p=0.5).install(chain, 0)
    assert [chain.get_submodule(name).p for name in ("1", "3", "4.drop_input")] == [0.3, 0.0, 0.5]


def test_a_distilled_model_has_two_heads_and_is_refused():
    with pytest.raises(ModelError, match="must have one head"):
        DropoutBeforeHead().install(timm.create_model("levit_128s", pretrained=False, num_classes=3), 0)


def test_timms_stages_are_known_by_its_feature_info():
    model = timm.create_model("resnet10t", pretrained=False, num_classes=3)
    SpatialDropout().install(model, 0)
    assert places(model, Dropout) == [f"layer{n}.0.drop_output" for n in (1, 2, 3, 4)]  # and not after the stem
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=3, img_size=64)
    with pytest.raises(ModelError, match=r"needs feature maps \(B, C, H, W\)"):
        SpatialDropout().install(vit, 0)(X)


def test_dropconnect_takes_the_linear_layers_of_the_head_or_everything(lite0):
    DropConnect(p=0.3).install(lite0, 0)
    assert places(lite0, DropConnectLinear) == ["head.0", "head.2"]
    assert places(lite0, DropConnectConv2d) == []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    model(X)
    DropConnect(p=0.3, layers="all", per="batch").install(model, 0)
    assert isinstance(model[0], DropConnectConv2d)
    assert isinstance(model[2], DropConnectLinear)


def test_a_frozen_part_stays_deterministic(lite0):
    SpatialDropout(p=0.5).install(lite0, 0)
    hold_in_eval(lite0.backbone)
    lite0.train()
    assert torch.equal(lite0.backbone(X), lite0.backbone(X))


# --------------------------------------------------------------------------------- does it reach a part that trains


def stages(classifier, first):
    chain = classifier.backbone.stages
    return list(chain)[classifier.backbone.stage_names.index(first) :]


@pytest.mark.parametrize("technique", [StochasticDepthInBlocks(), SpatialDropout(), DropBlockAfterStages(size=2), KLSparsity(),
                                       GhostBatchNorm()], ids=str)  # fmt: skip
def test_what_reaches_only_frozen_parts_is_refused(lite0, technique):
    """``--freeze-to head`` freezes every stage: only the classifier's own head trains."""
    lite0.head = nn.Linear(lite0.backbone.n_features, 3)
    with pytest.raises(KnobError, match=rf"{technique.name}.*has no effect on a frozen part"):
        install_all([technique], lite0, trained=[lite0.head], norm="eval", seed=0)


def test_one_place_that_trains_is_enough(lite0):
    install_all([StochasticDepthInBlocks(), SpatialDropout(), L1()], lite0, trained=stages(lite0, "block5"), norm="eval", seed=0)


@pytest.mark.parametrize("norm", ["eval", "affine-frozen"])
def test_ghost_batches_need_norms_that_look_at_the_batch(lite0, norm):
    with pytest.raises(KnobError, match=rf"ghost_batch_norm.*has no effect with norm='{norm}'.*--norm train"):
        install_all([GhostBatchNorm()], lite0, trained=[lite0], norm=norm, seed=0)


def test_ghost_batches_are_fine_with_norms_that_do(lite0):
    install_all([GhostBatchNorm()], lite0, trained=[lite0], norm="train", seed=0)


@pytest.mark.parametrize("norm", ["eval", "affine-frozen", "train"])
@pytest.mark.parametrize("technique", [KLSparsity(), KLSparsity(layers=("backbone.stages.block6.0.bn1",)),
                                       StochasticDepthInBlocks(last=0.9), SpatialDropout(p=0.5)], ids=str)  # fmt: skip
def test_what_stands_beside_a_held_norm_or_in_it_still_trains(lite0, technique, norm):
    """Timm's norms hold their activation; fine-tuning holds norms in evaluation mode by default, and nothing else."""
    install_all([technique], lite0, trained=[lite0], norm=norm, seed=0)
    FineTuning(lite0, freeze_to=None, norm=norm).thaw()
    lite0.train()
    with rng.context(0, 0, [1, 2]):
        first = lite0(X)
    extra = technique.extra_loss(lite0)
    with rng.context(1, 0, [1, 2]):
        other = lite0(X)
    if isinstance(technique, KLSparsity):
        assert extra is not None
        assert extra.requires_grad
    else:
        assert not torch.equal(first, other)
    norms = [m for m in lite0.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.training for m in norms} == {norm == "train"}


def test_our_blocks_end_in_a_norm_and_are_dropped_though_it_is_held():
    backbone = ResNet20(width=4).build(0)
    model = Classifier(backbone, nn.Linear(backbone.n_features, 3))
    StochasticDepthInBlocks(last=0.9).install(model, 0)
    set_norm_policy(model.train(), "eval")
    answers = []
    for epoch in range(2):
        with rng.context(epoch, 0, [1, 2]):
            answers.append(model(X))
    assert not torch.equal(*answers)


def test_a_timm_model_without_its_head_is_refused_in_place_of_its_last_linear_layer():
    vit = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=64)
    for technique in (DropoutBeforeHead(), DropConnect()):
        with pytest.raises(ModelError, match=f"{technique.name}: VisionTransformer must have a head"):
            technique.install(vit, 0)


def test_a_module_that_runs_its_own_children_does_not_run_the_layer_too():
    class Runs(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            for child in self.children():
                x = child(x)
            return x

    assert runs_its_children(Runs())
    assert not runs_its_children(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="must call its children by their names"):
        drop_output(Runs(), Dropout(0.5))


def test_a_model_without_the_place_is_an_error():
    with pytest.raises(ModelError, match="must have stages"):
        SpatialDropout().install(nn.Linear(2, 2), 0)
    with pytest.raises(ModelError, match="must end in a linear layer"):
        DropoutBeforeHead().install(nn.ReLU(), 0)
    with pytest.raises(ModelError, match="plain linear layer or convolution"):
        DropConnect(layers="all").install(nn.ReLU(), 0)
