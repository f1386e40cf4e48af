"""DropConnect: its moments by enumeration, its per-sample form by the written-out sum, its Gaussian against quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from tests.oracles import regularize_forms as oracle
from torch import nn
from torch.nn import functional as F

from descend import rng
from descend.errors import KnobError
from descend.regularize import DropConnectConv2d, DropConnectLinear, exact_average, expected_relu

P = 0.3


def linear(**settings):
    torch.manual_seed(0)
    return DropConnectLinear(5, 4, P, **settings).double()


def conv(**settings):
    torch.manual_seed(0)
    return DropConnectConv2d(4, 6, 3, P, padding=1, groups=2, **settings).double()


LAYERS = [(linear, (3, 5)), (linear, (3, 2, 5)), (conv, (3, 4, 5, 5))]


def plain(layer, x, weight, bias):
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_an_empty_batch_passes_in_training(make, shape, per):
    layer, x = make(per=per), torch.ones(0, *shape[1:], dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == plain(layer, x, layer.weight, layer.bias).shape
    y.sum().backward()
    assert not layer.weight.grad.any()


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_without_outputs_is_torchs(per, bias):
    layer, x = DropConnectLinear(5, 0, P, per=per, bias=bias), torch.ones(3, 5, requires_grad=True)
    y = layer(x)
    assert y.shape == (3, 0)
    y.sum().backward()
    assert torch.equal(x.grad, torch.zeros(3, 5))


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_per_sample_is_each_sample_through_its_own_weights(make, shape):
    layer, x = make(seed=2, stream="dc"), torch.randn(shape, dtype=torch.float64)
    ids = [7, 3, 2**40]
    with rng.context(1, 0, ids):
        ours = layer(x)
    n = layer.weight.numel() + layer.bias.numel()
    kept = torch.from_numpy(~rng.bernoulli(2, "dc", ids=ids, p=P, n=n, epoch=1)).double() / (1 - P)
    for i in range(3):
        w = layer.weight * kept[i, : layer.weight.numel()].view_as(layer.weight)
        b = layer.bias * kept[i, layer.weight.numel() :]
        torch.testing.assert_close(ours[i : i + 1], plain(layer, x[i : i + 1], w, b), rtol=1e-12, atol=1e-14)
    with rng.context(1, 0, ids[1:]):
        torch.testing.assert_close(layer(x[1:]), ours[1:], rtol=0, atol=0)


@pytest.mark.parametrize(("n_in", "n_out"), [(16, 3), (17, 4), (130, 9), (600, 33), (64, 10)])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("p", [0.3, 0.5])
def test_kernels_multiply_as_written_out_masks_do_forwards_and_backwards(n_in, n_out, rows, p):
    ids = [7, -3, 2**40, 0, 12]
    layer = DropConnectLinear(n_in, n_out, p, bias=False, seed=2, stream="dc").double()
    x = torch.randn(len(ids), rows, n_in, dtype=torch.float64, requires_grad=True)
    g = torch.randn(len(ids), rows, n_out, dtype=torch.float64)
    with rng.context(1, 0, ids):
        ours = layer(x)
    ours.backward(g)
    dropped = rng.bernoulli(2, "dc", ids=ids, p=p, n=n_out * n_in, epoch=1).reshape(-1, n_out, n_in)
    mask, w = (~dropped) / (1 - p), layer.weight.detach().numpy()
    for found, formula, operands in (
        (ours, "bmi,boi,oi->bmo", (x, mask, w)), (x.grad, "bmo,boi,oi->bmi", (g, mask, w)),
        (layer.weight.grad, "bmo,boi,bmi->oi", (g, mask, x)),
    ):  # fmt: skip
        arrays = [operand.detach().numpy() if isinstance(operand, torch.Tensor) else operand for operand in operands]
        np.testing.assert_allclose(found.detach().numpy(), np.einsum(formula, *arrays), rtol=1e-11, atol=1e-12)


def test_one_number_that_is_none_spoils_every_output_wherever_it_stands():
    layer = DropConnectLinear(20, 8, 0.5)
    for place in (0, 19):
        x = torch.ones(1, 20)
        x[0, place] = torch.nan
        assert layer(x).isnan().all()


def test_samples_are_those_of_a_strided_array_too():
    layer, x, ids = DropConnectLinear(20, 8, 0.5), torch.randn(4, 20), np.arange(8)[::-2]
    with rng.context(0, 0, ids):
        found = layer(x)
    with rng.context(0, 0, ids.copy()):
        assert torch.equal(layer(x), found)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_per_batch_is_one_mask_of_the_step(make, shape):
    layer, x = make(per="batch", stream="dc"), torch.randn(shape, dtype=torch.float64)
    with rng.context(0, 17, [1, 2, 3]):
        ours = layer(x)
    n = layer.weight.numel() + layer.bias.numel()
    kept = torch.from_numpy(~rng.bernoulli(0, "dc", ids=[17], p=P, n=n))[0].double() / (1 - P)
    w = layer.weight * kept[: layer.weight.numel()].view_as(layer.weight)
    torch.testing.assert_close(ours, plain(layer, x, w, layer.bias * kept[layer.weight.numel() :]), rtol=1e-12, atol=1e-14)
    with rng.context(0, 17, [8, 9, 10]):
        assert torch.equal(layer(x), ours)  # the samples play no part
    with rng.context(0, 18, [1, 2, 3]):
        assert not torch.equal(layer(x), ours)


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_gradients_reach_input_weight_and_bias(make, shape, per):
    layer, x = make(per=per), torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def f(x, weight, bias):
        with rng.context(0, 0, [1, 2, 3]):
            return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(f, (x, layer.weight, layer.bias), fast_mode=True)


def test_moments_are_those_of_all_masks():
    torch.manual_seed(3)
    layer, x = DropConnectLinear(4, 2, P).double(), torch.randn(3, 4, dtype=torch.float64)
    mean, variance = layer.moments(x)
    first = second = np.zeros((3, 2))
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for mask, chance in oracle.masks(10, P):
        u = x.numpy() @ (w * mask[:8].reshape(2, 4)).T / (1 - P) + b * mask[8:] / (1 - P)
        first, second = first + chance * u, second + chance * u**2
    np.testing.assert_allclose(mean.detach().numpy(), first, rtol=1e-12)
    np.testing.assert_allclose(variance.detach().numpy(), second - first**2, rtol=1e-9)
    exact = exact_average(layer, x)
    np.testing.assert_allclose(exact.logits.numpy(), layer.eval()(x).detach().numpy(), rtol=1e-12)
    assert exact.n_masks == 2**10


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_mean_over_many_passes_is_the_mean_weight_answer(per):
    """Within 5 standard errors of the mean of n passes, whose variance the moments give: one failure in 1.7 million."""
    layer, x, n = linear(per=per), torch.randn(1, 5, dtype=torch.float64), 3000
    with torch.no_grad():
        mean = sum(layer(x) for _ in range(n)) / n
        expected, variance = layer.moments(x)
        assert torch.equal(layer.eval()(x), expected)
    assert ((mean - expected).abs() <= 5 * (variance / n).sqrt()).all()


@pytest.mark.parametrize("mean", [-3.0, -0.2, 0.0, 1.5])
@pytest.mark.parametrize("variance", [0.01, 1.0, 9.0])
def test_expected_relu_is_the_integral(mean, variance):
    sd = variance**0.5
    area, _ = integrate.quad(lambda u: u * stats.norm.pdf(u, mean, sd), 0, max(mean, 0) + 12 * sd, epsabs=1e-13)
    ours = expected_relu(torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64))
    assert float(ours) == pytest.approx(area, abs=1e-10)


def test_expected_relu_without_variance_is_relu():
    u = torch.tensor([-2.0, 0.0, 3.0])
    torch.testing.assert_close(expected_relu(u, torch.zeros(3)), u.relu(), rtol=0, atol=1e-18)


def test_gaussian_inference_is_nearer_to_the_average_over_masks_than_the_mean_weights():
    torch.manual_seed(0)
    x, n = torch.rand(8, 64), 2000
    gaussian = DropConnectLinear(64, 16, 0.5, activation="relu", inference="gaussian", per="batch")
    with torch.no_grad():
        truth = sum(gaussian(x) for _ in range(n)) / n
        by_moments = gaussian.eval()(x)
        by_mean = F.relu(F.linear(x, gaussian.weight, gaussian.bias))
    assert (by_moments - truth).abs().mean() < 0.3 * (by_mean - truth).abs().mean()


def test_settings_without_effect_or_out_of_range_are_errors():
    with pytest.raises(KnobError, match="no effect without an activation"):
        DropConnectLinear(2, 2, 0.5, inference="gaussian")
    with pytest.raises(KnobError, match=r"p must be a number in \[0, 1\)"):
        DropConnectConv2d(2, 2, 1, 1.0)
    with pytest.raises(KnobError, match="per must be one of"):
        DropConnectLinear(2, 2, 0.5, per="pixel")


@pytest.mark.parametrize("training", [True, False])
def test_p_zero_is_the_plain_layer_to_the_bit(training):
    torch.manual_seed(0)
    layer, x = DropConnectLinear(6, 3, 0.0).train(training), torch.randn(4, 6)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_adoption_keeps_object_parameters_and_names():
    layer, x = nn.Linear(6, 3), torch.randn(4, 6)
    weight, before, names = layer.weight, layer(x), list(layer.state_dict())
    DropConnectLinear.adopt(layer, 0.5)
    assert isinstance(layer, DropConnectLinear)
    assert layer.weight is weight
    assert list(layer.state_dict()) == names
    assert not torch.equal(layer(x), before)
    assert torch.equal(layer.eval()(x), before)


@pytest.mark.parametrize("shape", [(3, 5), (6, 2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_per_sample_kernels_differentiate_once_and_twice(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(1)
    layer, x = DropConnectLinear(5, 4, P, bias=bias).double(), torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def output(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        with rng.context(0, 0, [4, 9, 2]):
            return torch.func.functional_call(layer, dict(zip(("weight", "bias"), weights, strict=False)), x)

    assert torch.autograd.gradcheck(output, (x, *layer.parameters()))
    assert torch.autograd.gradgradcheck(output, (x, *layer.parameters()))


def test_the_number_of_threads_changes_nothing_per_sample() -> None:
    layer, x, found, before = DropConnectLinear(37, 21, 0.5), torch.randn(16, 37), [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            given = x.clone().requires_grad_()
            with rng.context(0, 0, range(16)):
                y = layer(given)
            found.append((y, *torch.autograd.grad(y.square().sum(), (given, layer.weight, layer.bias))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
