"""The one loss: torch wherever torch has it, the written-out sum elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import regularize_forms as oracle
from torch.nn import functional as F

from descend.errors import DataError, KnobError
from descend.regularize import (
    L1,
    BalancedSampling,
    ClassWeights,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    balanced_class_weights,
    cross_entropy,
    merged_class_weights,
    merged_epoch_rows,
    merged_knobs,
)


def batch(seed=0, n=7, k=5):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, generator=g, dtype=torch.float64) * 3
    hard = torch.randint(0, k, (n,), generator=g)
    soft = torch.rand(n, k, generator=g, dtype=torch.float64)
    return logits, hard, soft / soft.sum(1, keepdim=True), torch.rand(k, generator=g, dtype=torch.float64) + 0.1


@pytest.mark.parametrize(("smoothing", "weighted", "soft"), [
    (0.0, False, False), (0.1, False, False), (0.0, False, True), (0.1, False, True), (0.0, True, True),
])  # fmt: skip
def test_without_focal_it_is_torch(smoothing, weighted, soft):
    """Where weights meet smoothed targets torch is no oracle: see the tests below."""
    logits, hard, mixed, w = batch()
    targets = mixed if soft else hard
    weight = w if weighted else None
    ours = cross_entropy(logits, targets, smoothing=smoothing, class_weights=weight)
    torch.testing.assert_close(
        ours, F.cross_entropy(logits, targets, weight=weight, label_smoothing=smoothing), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("focal", [0.0, 0.5, 2.0])
def test_a_class_that_is_masked_by_its_logit_weighs_nothing(focal, soft):
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [0.0, 1.0, -torch.inf]], requires_grad=True)
    targets, weights = torch.tensor([0, 1]), torch.tensor([0.5, 1.5, 1.0])
    loss = cross_entropy(logits, F.one_hot(targets, 3).float() if soft else targets, class_weights=weights, focal=focal)
    without = logits.detach()[:, :2].requires_grad_()  # the same, had there never been a third class
    p = torch.softmax(without, 1)[[0, 1], targets]
    expected = -(weights[targets] * (1 - p) ** focal * p.log()).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(logits.grad, F.pad(without.grad, (0, 1)))


@pytest.mark.parametrize("knobs", [{}, {"focal": 2.0}, {"class_weights": torch.ones(3)}, {"smoothing": 0.1}])
@pytest.mark.parametrize("odd", [-100, -1, 3])
def test_a_class_number_that_is_none_is_an_error_whatever_the_knobs(knobs, odd):
    with pytest.raises(DataError, match=rf"cross_entropy: class numbers must be in 0\.\.2, got {odd}\. Leave out the rows"):
        cross_entropy(torch.zeros(2, 3), torch.tensor([0, odd]), **knobs)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.5), st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.7]), st.booleans(), st.booleans())
def test_it_is_the_written_out_sum(seed, smoothing, focal, weighted, soft):
    logits, hard, mixed, w = batch(seed)
    weights = w.numpy() if weighted else np.ones(5)
    one_hot = np.eye(5)[hard.numpy()]
    expected = oracle.cross_entropy(logits.numpy(), mixed.numpy() if soft else one_hot, smoothing=smoothing, weights=weights,
                                    focal=focal)  # fmt: skip
    ours = cross_entropy(logits, mixed if soft else hard, smoothing=smoothing, class_weights=w if weighted else None, focal=focal)
    assert float(ours) == pytest.approx(expected, rel=1e-10)


def test_weight_and_smoothing_by_hand():
    """Two classes, weights 4 and 1, smoothing 0.2, one sample of each; p = (3/4, 1/4) for both samples.

    Smoothed targets are (0.9, 0.1) and (0.1, 0.9). Sample losses: -(0.9 ln 3/4 + 0.1 ln 1/4) and -(0.1 ln 3/4 + 0.9 ln 1/4).
    The first counts four times: the loss is (4 a + b) / 2. (torch gives (3.7 ln 4/3 + 1.3 ln 4) / 5.)
    """
    logits = torch.log(torch.tensor([[0.75, 0.25], [0.75, 0.25]], dtype=torch.float64))
    loss = cross_entropy(logits, torch.tensor([0, 1]), smoothing=0.2, class_weights=torch.tensor([4.0, 1.0]))
    a, b = (-(q * np.log(0.75) + (1 - q) * np.log(0.25)) for q in (0.9, 0.1))
    assert float(loss) == pytest.approx((4 * a + b) / 2, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("focal", [0.0, 1.5])
def test_a_weight_of_three_is_the_sample_three_times(smoothing, focal):
    logits, _, _, _ = batch(n=4, k=3)
    hard = torch.tensor([0, 1, 2, 1])
    weighed = cross_entropy(logits, hard, smoothing=smoothing, focal=focal, class_weights=torch.tensor([1.0, 3.0, 2.0]))
    rows = [0, 1, 1, 1, 2, 2, 3, 3, 3]
    copied = cross_entropy(logits[rows], hard[rows], smoothing=smoothing, focal=focal)
    torch.testing.assert_close(weighed, copied * 9 / 4, rtol=1e-12, atol=0)


def test_weights_leave_the_best_prediction_of_a_sample_of_one_class_at_its_smoothed_target():
    """Cross-entropy is lowest at p = q. A weight may scale a sample's pull, but not where it pulls: rare mass stays rare."""
    _, hard, _, _ = batch()
    q = 0.9 * F.one_hot(hard, 5).double() + 0.1 / 5
    logits = q.log().requires_grad_()
    weights = torch.tensor([0.5, 100.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    cross_entropy(logits, hard, smoothing=0.1, class_weights=weights).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-13  # of weights up to 100


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("focal", [0.0, 1.5])
def test_a_mixed_target_costs_the_mix_of_the_weighted_losses_of_its_classes(smoothing, focal):
    """Of each sample by itself: lambda w_a CE(a) + (1 - lambda) w_b CE(b). One weight for both would give back each class's
    share of the mixed pictures to how common it is."""
    logits, a, _, w = batch()
    b, share = a.roll(1), torch.rand(7, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mixed = share * F.one_hot(a, 5) + (1 - share) * F.one_hot(b, 5)
    log_p = torch.log_softmax(logits, 1)

    def weighed(hard):
        q = (1 - smoothing) * F.one_hot(hard, 5).double() + smoothing / 5
        return -(w[hard] * (q * (1 - log_p.exp()) ** focal * log_p).sum(1))

    expected = share[:, 0] * weighed(a) + (1 - share[:, 0]) * weighed(b)
    together = cross_entropy(logits, mixed, smoothing=smoothing, focal=focal, class_weights=w)
    torch.testing.assert_close(together, expected.mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_mean_over_parts_of_a_batch_is_the_loss_of_the_batch(smoothing, size):
    """So accumulation over n parts is a batch n times as large, and a batch of one keeps its weight."""
    logits, hard, _, w = batch(n=8)
    whole = cross_entropy(logits, hard, smoothing=smoothing, class_weights=w)
    parts = [cross_entropy(z, y, smoothing=smoothing, class_weights=w)
             for z, y in zip(logits.split(size), hard.split(size), strict=True)]  # fmt: skip
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-12, atol=0)


def test_without_smoothing_weights_are_torchs_but_for_its_mean_of_class_numbers():
    logits, hard, soft, w = batch()
    mixed, numbers = (cross_entropy(logits, targets, class_weights=w) for targets in (soft, hard))
    torch.testing.assert_close(mixed, F.cross_entropy(logits, soft, weight=w), rtol=1e-12, atol=0)
    summed = F.cross_entropy(logits, hard, weight=w, reduction="sum")
    torch.testing.assert_close(numbers, summed / len(hard), rtol=1e-12, atol=0)


def test_a_batch_of_samples_without_weight_costs_nothing():
    logits, hard, _, _ = batch()
    assert cross_entropy(logits, hard, class_weights=torch.zeros(5)) == 0


@pytest.mark.parametrize("focal", [0.0, 1.5])
def test_a_one_hot_target_costs_what_its_class_number_costs(focal):
    logits, hard, _, w = batch()
    settings = {"smoothing": 0.1, "class_weights": w, "focal": focal}
    hard_loss, soft_loss = cross_entropy(logits, hard, **settings), cross_entropy(logits, F.one_hot(hard, 5).double(), **settings)
    torch.testing.assert_close(hard_loss, soft_loss, rtol=1e-12, atol=0)


def test_smoothing_a_mixed_target_once_is_mixing_smoothed_targets():
    logits, a, _, _ = batch()
    b = a.roll(1)
    mixed = 0.3 * F.one_hot(a, 5).double() + 0.7 * F.one_hot(b, 5).double()
    together = cross_entropy(logits, mixed, smoothing=0.1)
    apart = 0.3 * cross_entropy(logits, a, smoothing=0.1) + 0.7 * cross_entropy(logits, b, smoothing=0.1)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=0)


@pytest.mark.parametrize("focal", [0.0, 0.5, 2.0])
def test_gradient_is_that_of_the_loss(focal):
    logits, _, soft, w = batch(n=3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, soft, smoothing=0.1, class_weights=w, focal=focal), (logits,))


def test_focal_gradient_stays_finite_where_an_answer_is_certain():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    cross_entropy(logits, torch.tensor([0]), focal=0.5).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("focal", [0.0, 2.0])
def test_half_precision_sums_in_full(dtype, smoothing, focal):
    """256 samples that weigh 150 each: their sum is beyond the largest float16."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(256, 1000, generator=g).to(dtype).requires_grad_()
    hard, w = torch.randint(0, 1000, (256,), generator=g), torch.rand(1000, generator=g) * 300
    loss = cross_entropy(logits, hard, smoothing=smoothing, class_weights=w, focal=focal)
    loss.backward()
    log_p = torch.log_softmax(logits.detach().double(), 1)
    q = (1 - smoothing) * F.one_hot(hard, 1000) + smoothing / 1000
    each = -(q * (1 - log_p.exp()) ** focal * log_p).sum(1)
    assert float(loss.detach()) == pytest.approx(float((w[hard] * each).mean()), rel=1e-5)
    assert logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()


def test_what_does_not_fit_is_an_error():
    logits, hard, soft, _ = batch()
    with pytest.raises(DataError, match="targets must be"):
        cross_entropy(logits, hard.int())
    with pytest.raises(DataError, match="targets must be"):
        cross_entropy(logits, soft[:, :4])
    with pytest.raises(DataError, match="logits must be"):
        cross_entropy(logits[0], hard)
    with pytest.raises(DataError, match="class_weights must be"):
        cross_entropy(logits, hard, class_weights=torch.ones(4))


def test_class_weights_are_due_exactly_when_balanced():
    logits, hard, _, w = batch()
    with pytest.raises(KnobError, match="must be given"):
        CrossEntropy(class_weights="balanced")(logits, hard)
    with pytest.raises(KnobError, match="must not be given"):
        CrossEntropy()(logits, hard, w)
    loss = CrossEntropy(class_weights="balanced", smoothing=0.1)(logits, hard, w)
    one_hot = np.eye(5)[hard.numpy()]
    assert float(loss) == pytest.approx(oracle.cross_entropy(logits.numpy(), one_hot, smoothing=0.1, weights=w.numpy(), focal=0))


def test_balanced_weights_give_every_class_the_same_total_and_mean_one():
    counts = np.array([90, 9, 1])
    w = balanced_class_weights(counts).numpy()
    np.testing.assert_allclose(w * counts, np.full(3, 100 / 3), rtol=1e-6)
    assert (w * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-6)
    with pytest.raises(DataError, match="at least one sample"):
        balanced_class_weights([3, 0])


COUNTS = [90, 9, 1]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_class_weights_are_those_of_the_effective_number(beta):
    weights = ClassWeights(beta=beta).class_weights(COUNTS)
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights.numpy(), oracle.effective_number_weights(COUNTS, beta), rtol=1e-6)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), st.floats(0, 1))
def test_no_beta_gives_a_common_class_more_than_a_rare_one(counts, beta):
    weights = balanced_class_weights(counts, beta=beta).double().numpy()
    assert (weights > 0).all()
    assert (weights * counts).sum() / sum(counts) == pytest.approx(1, rel=1e-5)
    assert (np.diff(weights[np.argsort(counts)]) <= 1e-6 * weights.max()).all()


def test_beta_out_of_range_is_an_error():
    with pytest.raises(KnobError, match="beta must be"):
        balanced_class_weights(COUNTS, beta=1.1)


def test_techniques_of_the_loss_make_the_loss():
    logits, hard, _, w = batch()
    techniques = [LabelSmoothing(amount=0.1), Focal(gamma=1.5), ClassWeights()]
    loss = CrossEntropy(**merged_knobs(techniques, "loss_knobs"))
    assert loss == CrossEntropy(smoothing=0.1, focal=1.5, class_weights="balanced")
    expected = cross_entropy(logits, hard, smoothing=0.1, focal=1.5, class_weights=w)
    torch.testing.assert_close(loss(logits, hard, w), expected, rtol=0, atol=0)


def test_one_technique_gives_the_weights_and_one_the_rows():
    labels = [0] * 9 + [1]
    assert merged_class_weights([L1(), Focal()], [9, 1]) is None
    assert merged_epoch_rows([L1(), ClassWeights()], labels, seed=0, epoch=0) is None
    weights = merged_class_weights([L1(), ClassWeights(beta=0.9)], [9, 1])
    assert weights is not None
    assert torch.equal(weights, ClassWeights(beta=0.9).class_weights([9, 1]))
    rows = merged_epoch_rows([L1(), BalancedSampling(power=0.5)], labels, seed=3, epoch=2)
    assert rows is not None
    assert (rows == BalancedSampling(power=0.5).epoch_rows(labels, seed=3, epoch=2)).all()
    with pytest.raises(KnobError, match="class weights must be set once"):
        merged_class_weights([ClassWeights(), ClassWeights(beta=0.9)], [9, 1])
    with pytest.raises(KnobError, match="rows of an epoch must be set once"):
        merged_epoch_rows([BalancedSampling(), BalancedSampling()], labels, seed=0, epoch=0)
