"""The knobs of the one loss as techniques: what may stand in a recipe beside the drop layers and the penalties."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Le, Lt
from numpy.typing import ArrayLike
from torch import Tensor

from descend.regularize.losses import balanced_class_weights
from descend.regularize.regularizer import Regularizer
from descend.technique import Search, technique


@technique("label_smoothing", source="Szegedy et al. 2016, arXiv:1512.00567, section 7")
class LabelSmoothing(Regularizer):
    """Targets of ``1 - amount`` instead of 1, the rest spread evenly; the loss does it, once, also to mixed targets.

        y' = (1 - amount) y + amount / K        K: the number of classes

    Prefer it for better calibrated predictions; avoid it for a model that will teach another.
    """

    neutral: ClassVar = {"amount": 0.0}

    amount: Annotated[float, Ge(0), Lt(1), Search(0.0, 0.2)] = 0.1

    def loss_knobs(self) -> dict[str, float | str]:
        """Set the loss's ``smoothing``."""
        return {"smoothing": self.amount}


@technique("focal", source="Lin, Goyal, Girshick, He & Dollár 2017, arXiv:1708.02002, equation 4")
class Focal(Regularizer):
    """Each sample's loss times a power of how wrong it is: easy samples hardly count.

        loss = -sum_k q_k (1 - p_k)^gamma log p_k        q: the target, 1 for the true class;  p: the predicted probabilities

    Prefer it where most samples are easy and the rare class is among the hard ones. Its predictions are less confident than those
    of plain cross-entropy; on balanced, clean data it only slows training down. The loss does it, see ``cross_entropy``.

    gamma: the exponent; 0 is plain cross-entropy.
    """

    neutral: ClassVar = {"gamma": 0.0}

    gamma: Annotated[float, Ge(0), Le(10), Search(0.5, 3.0)] = 2.0

    def loss_knobs(self) -> dict[str, float | str]:
        """Set the loss's ``focal``."""
        return {"focal": self.gamma}


@technique(
    "class_weights", source="Cui, Jia, Lin, Song & Belongie 2019, arXiv:1901.05555, equation 2; beta = 1: inverse frequency"
)
class ClassWeights(Regularizer):
    """Weigh each class in the loss by the inverse of its effective number of samples, so that rare classes count.

    Prefer it to ``balanced_sampling`` where rare classes have enough pictures to fill batches: nothing is seen twice. The two
    are not combined: together they count rare classes twice. Recall of rare classes rises, and probabilities are those of
    balanced classes, not of the data.

        E_k = (1 - beta^n_k) / (1 - beta)          w_k = c / E_k,  c such that the mean of w over the samples is 1

    A sample weighs what its own target weighs, before smoothing; of a mixed one each part does, see ``cross_entropy``.

    beta: 1 is the limit E_k = n_k, the plain inverse frequency; 0 gives every class the weight 1; the paper takes 0.9 to 0.9999.
    *Differs from the paper:* the weights' mean over the samples is 1, not their mean over the classes, so that the loss keeps its
    scale.
    """

    balances: ClassVar = True
    neutral: ClassVar = {"beta": 0.0}
    not_with: ClassVar = {"balanced_sampling": "both make rare classes count more, and together they count twice"}

    beta: Annotated[float, Ge(0), Le(1), Search(0.9, 1.0)] = 1.0

    def loss_knobs(self) -> dict[str, float | str]:
        """Set the loss's ``class_weights``, which makes it ask for the weights."""
        return {"class_weights": "balanced"}

    def class_weights(self, counts: ArrayLike) -> Tensor:
        """Return the weight of each class: counts (K,) whole -> (K,) float32. Raises DataError for a class without samples."""
        return balanced_class_weights(counts, beta=self.beta)
