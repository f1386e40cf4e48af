"""Sharpness-aware steps: the gradient is wanted where the loss nearby is worst."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Gt

from descend.errors import KnobError
from descend.optim.adam import AdamW
from descend.optim.rule import Rule
from descend.optim.wrapper import Perturbation, parts
from descend.technique import Search, technique


@technique(
    "sam", source="Foret et al. 2021, arXiv:2010.01412, Algorithm 1; adaptive: Kwon et al. 2021, arXiv:2102.11600, Algorithm 1"
)
class SAM(Perturbation):
    """Perturb the weights to where the loss nearby is worst, and make the inner rule's step with the gradient found there.

    Prefer it where small training sets are learned by heart; it finds flat minima. Costs two gradients per step:
    ``step(closure)`` calls the closure twice and returns the first loss. Both gradients should be of one mini-batch and its one
    dropout mask.

        e = rho * g / norm(g)                        adaptive:  e = rho * p**2 * g / norm(abs(p) * g)
        p = inner rule's step of p along g(p + e)    norm: over all parameters together

    rho: how far nearby reaches, in units of the weights; adaptive, relative to each weight, and about ten times as much.
    Differs from the adaptive paper: no constant is added to abs(p), so a weight of zero is not perturbed.
    """

    inner: Rule = AdamW()
    rho: Annotated[float, Gt(0), Search(0.01, 2.0, log=True)] = 0.05
    adaptive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if parts(self.inner)[0].looks_ahead():
            raise KnobError(self.name, "the inner rule must take its gradient at the parameters", got=str(self.inner),
                            fix="Choose form='current'.")  # fmt: skip

    def scaled_gradient(self, p: Any, g: Any) -> Any:
        """Return the gradient, adaptive: times the size of each weight."""
        return abs(p) * g if self.adaptive else g

    def perturbed(self, p: Any, g: Any, norm: float) -> Any:
        """Return where the loss nearby is worst; norm: of what ``scaled_gradient`` returns, over all parameters."""
        ascent = p * p * g if self.adaptive else g
        return p + ascent * (self.rho / norm) if norm > 0 else p
