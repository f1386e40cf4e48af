"""Sharpness-aware steps: the gradient is wanted where the loss nearby is worst."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Gt

from descend.errors import KnobError
from descend.optim.adam import AdamW
from descend.optim.rule import Rule
from descend.optim.wrapper import Wrapper
from descend.technique import Search, technique


@technique(
    "sam", source="Foret et al. 2021, arXiv:2010.01412, Algorithm 1; adaptive: Kwon et al. 2021, arXiv:2102.11600, Algorithm 1"
)
class SAM(Wrapper):
    """Climb to where the loss nearby is worst, take the gradient there, and make the inner rule's step from where you were.

    Prefer it where small training sets are learned by heart; it finds flat minima. Costs two gradients a step: ``step(closure)``
    calls the closure twice and returns the first loss. Both gradients should be of one mini-batch and its one dropout mask.

        climb = rho * g / norm(g)                        adaptive:  climb = rho * p**2 * g / norm(abs(p) * g)
        p = inner rule's step of p along g(p + climb)    norm: over all parameters together

    rho: how far nearby reaches, in units of the weights; adaptive, relative to each weight, and about ten times as much.
    Differs from the adaptive paper: no constant is added to abs(p), so a weight of zero stays where it is while climbing.
    """

    inner: Rule = AdamW()
    rho: Annotated[float, Gt(0), Search(0.01, 2.0, log=True)] = 0.05
    adaptive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner.looks_ahead():
            raise KnobError(self.name, "the inner rule must take its gradient at the parameters", got=str(self.inner),
                            fix="Choose form='current'.")  # fmt: skip

    @property
    def ascent(self) -> SAM:
        """The wrapper itself."""
        return self

    def pull(self, p: Any, g: Any) -> Any:
        """Return that of which the joint norm is taken."""
        return abs(p) * g if self.adaptive else g

    def climb(self, p: Any, g: Any, norm: float) -> Any:
        """Return where the loss nearby is worst; norm: of what ``pull`` returns, over all parameters."""
        way = p * p * g if self.adaptive else g
        return p + way * (self.rho / norm) if norm > 0 else p
