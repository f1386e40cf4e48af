"""Every continuous quantity that a transform draws follows the law that its docstring states (Kolmogorov-Smirnov, fixed seed)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from descend.augment import Pipeline

N, SIDE = 4000, 128
LOG = np.log


def uniform(low: float, high: float) -> Any:
    return stats.uniform(low, high - low)


LAWS: list[tuple[str, str, Any, Any]] = [
    ("rotate(degrees=20.0)", "degrees", uniform(-20, 20), None),
    ("shift(fraction=0.25)", "x", uniform(-32, 32), None),
    ("shift(fraction=0.25)", "y", uniform(-32, 32), None),
    ("scale(factor_range=[0.5, 2.0])", "x", uniform(LOG(0.5), LOG(2)), LOG),
    ("scale(factor_range=[0.5, 2.0], anisotropic=True)", "y", uniform(LOG(0.5), LOG(2)), LOG),
    ("shear(degrees=12.0)", "x", uniform(-12, 12), None),
    ("shear(degrees=12.0)", "y", uniform(-12, 12), None),
    ("elastic(strength=0.1)", "shifts", stats.norm(scale=0.1), lambda shifts: shifts[:, 1, 2, 3]),
    ("perspective(p=1.0, distortion=0.5)", "corners", uniform(0, 32), lambda corners: corners[:, 0, 1]),
    ("gamma(gamma_range=[0.5, 3.0])", "gamma", uniform(LOG(0.5), LOG(3)), LOG),
    ("contrast(amount=0.3)", "factor", uniform(0.7, 1.3), None),
    ("saturation(amount=0.3)", "factor", uniform(0.7, 1.3), None),
    ("hue(amount=0.2)", "share", uniform(-0.2, 0.2), None),
    ("color_jitter(brightness=0.2)", "brightness", uniform(0.8, 1.2), None),
    ("gaussian_noise(sigma_range=[2.0, 6.0])", "sigma", uniform(2, 6), None),
    ("blur(p=1.0, sigma_range=[0.5, 2.0])", "sigma", uniform(0.5, 2), None),
    ("sharpen(amount=0.6)", "factor", uniform(0.4, 1.6), None),
    ("grid_mask(p=1.0, period_range=[0.2, 0.4])", "period", uniform(0.2 * SIDE, 0.4 * SIDE), None),
    ("mixup(alpha=0.4)", "weight", stats.beta(0.4, 0.4), None),
]


@pytest.mark.parametrize(("text", "quantity", "law", "scale"), LAWS, ids=[f"{text}.{quantity}" for text, quantity, *_ in LAWS])
def test_draws_follow_their_law(text: str, quantity: str, law: Any, scale: Any) -> None:
    noted = Pipeline(text, seed=17).draw(np.arange(N), (SIDE, SIDE), epoch=0, step=0).parameters[text.split("(")[0]]
    drawn = scale(noted[quantity]) if scale else noted[quantity]
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("text", ["rotate()", "hue()", "mixup()"])
def test_draws_of_other_epochs_views_and_samples_are_independent(text: str) -> None:
    pipe, name = Pipeline(text, seed=17), text.split("(")[0]
    quantity = {"rotate": "degrees", "hue": "share", "mixup": "weight"}[name]
    one, epoch, view = (
        pipe.draw(np.arange(N), (SIDE, SIDE), step=0, **where).parameters[name][quantity]
        for where in ({"epoch": 0}, {"epoch": 1}, {"epoch": 0, "draw": 1})
    )
    for a, b in ((one, epoch), (one, view), (one[1:], one[:-1])):
        assert stats.spearmanr(a, b).pvalue > 1e-3
