"""Frozen is frozen: hashes, the train() guard through copies and pickles, the three batch-norm policies."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from descend.errors import KnobError, ModelError
from descend.models import Backbone, Classifier, backbone
from descend.regularize import set_norm_policy
from descend.transfer import FineTuning, fingerprint, freeze, stage_of, stage_rates, thaw, trainable_stages


@pytest.fixture
def net() -> Classifier:
    body = backbone("smallcnn(width=4)").build(0)
    return Classifier(body, nn.Linear(body.n_features, 3))


def train(model: nn.Module, steps: int = 3) -> None:
    """A few real steps on noise: whatever can move, moves."""
    model.train()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1, momentum=0.9, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = torch.randn(8, 3, 8, 8, generator=generator)
        loss = nn.functional.cross_entropy(model(x), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_frozen_backbone_keeps_every_parameter_and_buffer_while_its_head_trains(net):
    before = freeze(net.backbone)
    head = fingerprint(net.head)
    train(net)
    assert fingerprint(net.backbone) == before
    assert fingerprint(net.head) != head


def test_a_buffer_that_moved_changes_the_fingerprint(net):
    before = freeze(net.backbone)
    net.backbone.stages.stem.norm.running_mean += 1
    assert fingerprint(net.backbone) != before


@pytest.mark.parametrize(
    "rebuilt", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["same", "copy", "pickle"]
)
def test_train_on_a_parent_or_a_part_cannot_undo_it(net, rebuilt):
    freeze(net.backbone)
    model = rebuilt(net)
    parent = nn.Sequential(model)
    before = fingerprint(model.backbone)
    parent.train()
    model.backbone.train()
    model.backbone.stages.stem.norm.train()
    assert model.head.training
    assert not any(part.training for part in model.backbone.modules())
    train(parent)
    assert fingerprint(model.backbone) == before


def test_a_copy_of_a_frozen_module_is_thawed_on_its_own(net):
    freeze(net.backbone)
    other = copy.deepcopy(net)
    thaw(other.backbone)
    other.train()
    net.train()
    assert all(part.training for part in other.backbone.modules())
    assert not any(part.training for part in net.backbone.modules())


def test_state_dict_resume_into_a_frozen_model_keeps_it_frozen(net):
    freeze(net.backbone)
    train(net)
    fresh = Classifier(backbone("smallcnn(width=4)").build(9), nn.Linear(net.backbone.n_features, 3))
    freeze(fresh.backbone)
    fresh.load_state_dict(net.state_dict())
    assert fingerprint(fresh) == fingerprint(net)
    train(fresh)
    assert fingerprint(fresh.backbone) == fingerprint(net.backbone)


def test_one_stage_thawed_under_a_frozen_parent_trains(net):
    freeze(net.backbone)
    early = fingerprint(net.backbone.prefix("block1"))
    thaw(net.backbone.stages.block2)
    net.train()
    assert net.backbone.stages.block2.norm.training
    assert not net.backbone.stages.block1.training
    late = fingerprint(net.backbone.stages.block2)
    train(net)
    assert fingerprint(net.backbone.prefix("block1")) == early
    assert fingerprint(net.backbone.stages.block2) != late


@pytest.mark.parametrize(
    ("policy", "statistics", "affine", "uses_batch"),
    [("eval", False, True, False), ("affine-frozen", False, False, False), ("train", True, True, True)],
)
def test_each_norm_policy_moves_what_its_table_says(net, policy, statistics, affine, uses_batch):
    set_norm_policy(net.backbone, policy)
    norm = net.backbone.stages.stem.norm
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    train(net)
    moved = {name for name, value in norm.state_dict().items() if not torch.equal(value, state[name])}
    expected = {"running_mean", "running_var", "num_batches_tracked"} if statistics else set()
    expected |= {"weight", "bias"} if affine else set()
    assert moved == expected
    x = torch.randn(4, norm.num_features, 5, 5)
    net.train()
    reference = nn.functional.batch_norm(
        x, norm.running_mean.clone(), norm.running_var.clone(), norm.weight, norm.bias, uses_batch
    )
    assert torch.allclose(norm(x), reference)


def test_another_policy_replaces_the_first(net):
    set_norm_policy(net, "eval")
    set_norm_policy(net, "train")
    net.train()
    assert net.backbone.stages.stem.norm.training
    assert net.backbone.stages.stem.norm.weight.requires_grad
    with pytest.raises(KnobError, match="eval, affine-frozen, train, got 'frozen'"):
        set_norm_policy(net, "frozen")


# -------------------------------------------------------------------------------------------------------- fine-tuning


def test_rates_fall_by_the_decay_towards_the_pixels():
    assert stage_rates(("a", "b", "c"), 0.5) == {"a": 0.25, "b": 0.5, "c": 1.0}
    assert set(stage_rates(("a", "b"), 1.0).values()) == {1.0}
    for decay in (0.0, 1.5, -1.0):
        with pytest.raises(KnobError, match=r"decay must be in \(0, 1\]"):
            stage_rates(("a",), decay)


def test_the_stages_after_the_cut_are_the_trainable_ones(net):
    body: Backbone = net.backbone
    assert trainable_stages(body, None) == body.stage_names
    assert trainable_stages(body, "block1") == ("block2", "head")
    assert trainable_stages(body, "head") == ()
    with pytest.raises(ModelError, match="Did you mean 'block1'"):
        trainable_stages(body, "blok1")


def test_fine_tuning_trains_the_head_first_then_lets_the_later_stages_go(net):
    tuning = FineTuning(net, freeze_to="block0", norm="eval")
    whole, frozen, moving = fingerprint(net.backbone), fingerprint(tuning.frozen), fingerprint(tuning.moving)
    train(net)
    assert fingerprint(net.backbone) == whole
    tuning.thaw()
    assert tuning.rates(0.5) == {"block1": 0.5, "block2": 1.0, "classifier": 1.0}  # pooling has nothing to train
    train(net)
    assert fingerprint(tuning.frozen) == frozen
    assert fingerprint(tuning.moving) != moving
    assert {stage_of(n) for n, p in net.named_parameters() if p.requires_grad} == {"block1", "block2", "classifier"}


def test_fine_tuning_everything_freezes_nothing_for_good(net):
    tuning = FineTuning(net, freeze_to=None, norm="train")
    assert len(tuning.frozen) == 0
    tuning.thaw()
    net.train()
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad for p in net.parameters())
