"""Drop layers by spec text: where ``dropout(p=0.2)`` and its kin stand in a model that was built without them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt
from torch import nn

from descend.regularize.dropout import Dropout, Mode
from descend.regularize.install import drop_input, head_of, silence_head
from descend.regularize.regularizer import Regularizer
from descend.technique import Search, technique

DropProbability = Annotated[float, Ge(0), Lt(1), Search(0.0, 0.7)]


@technique("dropout", source="Srivastava et al. 2014, JMLR 15:1929, section 4")
class DropoutBeforeHead(Regularizer):
    """Dropout of the features, right before the layer that turns them into logits; see ``Dropout`` for its meaning.

    It replaces the dropout that a timm model may have in that place. Where a frozen backbone's features come from a cache
    it works just the same, because it belongs to the head.
    """

    p: DropProbability = 0.2
    mode: Mode = "inverted"

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Attach ``Dropout`` to the input of the head; a whole model or a head alone may be given."""
        silence_head(model)
        name, head = head_of(model)
        drop_input(head, Dropout(self.p, stream=f"dropout/{name}", seed=seed, mode=self.mode))
        return model
