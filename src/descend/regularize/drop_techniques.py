"""Drop layers by spec text: where ``dropout(p=0.2)`` and its kin stand in a model that was built without them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt
from torch import nn

from descend.errors import ModelError
from descend.regularize.drop_block import DropBlock
from descend.regularize.dropconnect import DropConnectConv2d, DropConnectLinear, Per
from descend.regularize.dropout import Dropout, Mode
from descend.regularize.feature_maps import feature_maps
from descend.regularize.install import drop_input, head_of, silence_head
from descend.regularize.regularizer import Regularizer
from descend.regularize.residual_blocks import check_places_free, check_shortcuts, put_depth, residual_blocks, with_shortcuts
from descend.regularize.stochastic_depth import StochasticDepth, linear_decay
from descend.technique import Search, technique

DropProbability = Annotated[float, Ge(0), Lt(1), Search(0.0, 0.7)]


@technique("dropout", source="Srivastava et al. 2014, JMLR 15:1929, section 4")
class DropoutBeforeHead(Regularizer):
    """Dropout of the features, right before the layer that turns them into logits; see ``Dropout`` for its meaning.

        training: x m / (1 - p),  m ~ Bernoulli(1 - p)        evaluation: x        ("classic": x m, and x (1 - p))

    It replaces the dropout that a timm model may have in that place. Where a frozen backbone's features come from a cache
    it works just the same, because it belongs to the head.
    """

    neutral: ClassVar = {"p": 0.0}

    p: DropProbability = 0.2
    mode: Mode = "inverted"

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Attach ``Dropout`` to the input of the head; a whole model or a head alone may be given."""
        name, head = head_of(model, self.name)
        silence_head(model)
        drop_input(head, Dropout(self.p, stream=f"dropout/{name}", seed=seed, mode=self.mode))
        return model


@technique("spatial_dropout", source="Tompson, Goroshin, Jain, LeCun & Bregler 2015, arXiv:1411.4280, section 3.2")
class SpatialDropout(Regularizer):
    """Dropout of whole channels after every stage of the backbone; see ``Dropout`` with ``kind="channel"``.

        training: y[c] = m[c] * x[c] / (1 - p)        m[c]: 1 with probability 1 - p, else 0, for each channel c of a picture

    Prefer it to ``dropout`` inside convolutional networks, with a p of a third or less of what a dense layer takes.
    """

    neutral: ClassVar = {"p": 0.0}
    not_with: ClassVar = {"drop_block": "both drop at the end of the same stages"}

    p: DropProbability = 0.1
    mode: Mode = "inverted"

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Attach ``Dropout(kind="channel")`` to the output of each stage. Raises ModelError where these are no feature maps."""
        for place in feature_maps(model, self.name):
            stream = f"spatial_dropout/{place.name}"
            layer = Dropout(self.p, stream=stream, seed=seed, mode=self.mode, kind="channel", layout=place.layout)
            place.holder.attach(layer)
        return model


@technique("drop_block", source="Ghiasi, Lin & Le 2018, arXiv:1810.12890, section 4.1")
class DropBlockAfterStages(Regularizer):
    """DropBlock after the last two stages of the backbone, as in the paper's ResNet; see ``DropBlock``.

        y = x * M * numel(M) / sum(M)        M: 0 on squares of ``size`` pixels, each begun with a chance of about p / size^2

    size: of the squares, in pixels of the feature map; the paper's 7 suits maps of 14 pixels, small pictures take 2 or 3.
    *Differs from the paper:* p is constant from the first step, where the authors raise it over training.
    """

    neutral: ClassVar = {"p": 0.0}

    p: DropProbability = 0.1
    size: Annotated[int, Ge(1), Search(2, 7)] = 7

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Attach ``DropBlock`` to the outputs of the last two stages. Raises ModelError where these are no feature maps."""
        for place in feature_maps(model, self.name)[-2:]:
            stream = f"drop_block/{place.name}"
            place.holder.attach(DropBlock(self.p, size=self.size, stream=stream, seed=seed, layout=place.layout))
        return model


@technique("dropconnect", source="Wan, Zeiler, Zhang, LeCun & Fergus 2013, 'Regularization of neural networks using DropConnect'")
class DropConnect(Regularizer):
    """Drop single weights: of the head's linear layers, or of every linear layer and convolution; see ``DropConnectLinear``.

        training: x (M * W)^T / (1 - p),  M ~ Bernoulli(1 - p)        evaluation: x W^T

    Test time uses the mean weights. layers "all" with per "sample" runs every convolution sample by sample: slow.
    """

    neutral: ClassVar = {"p": 0.0}

    p: DropProbability = 0.5
    per: Per = "sample"
    layers: Literal["head", "all"] = "head"

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Change the layers in place; parameters and their names stay. Raises ModelError where one cannot be masked."""
        kind = type(model).__name__
        name, top = head_of(model, self.name) if self.layers == "head" else ("", model)
        if any(isinstance(m, nn.MultiheadAttention) for m in top.modules()):
            raise ModelError(self.name, f"cannot mask the projections of nn.MultiheadAttention, which {kind} holds",
                             fix="Use layers='head'.")  # fmt: skip
        layers = [(f"{name}.{path}".strip("."), m) for path, m in top.named_modules()
                  if isinstance(m, (nn.Linear, nn.Conv2d)) and "masking" not in vars(m)]  # fmt: skip
        if not layers:
            raise ModelError(self.name, f"{kind} must have a plain linear layer or convolution there", got=name)
        before: list[tuple[nn.Module, type]] = [(layer, type(layer)) for _, layer in layers]
        try:
            for path, layer in layers:
                masked = DropConnectLinear if isinstance(layer, nn.Linear) else DropConnectConv2d
                masked.adopt(layer, self.p, per=self.per, stream=f"dropconnect/{path}", seed=seed)  # pyright: ignore[reportArgumentType] (the two go together)
        except ModelError:
            for layer, cls in before:
                layer.__class__ = cls
            raise
        return model


@technique("stochastic_depth", source="Huang, Sun, Liu, Sedra & Weinberger 2016, arXiv:1603.09382, equation 4")
class StochasticDepthInBlocks(Regularizer):
    """Drop residual blocks while training, the later the likelier; see ``StochasticDepth``.

        training: y = x + m * f(x) / (1 - p)        m: 1 with probability 1 - p, else 0        evaluation: y = x + f(x)

    last: the drop probability of the last block; block l of L has ``last * l / L``.
    per: "batch" really skips the blocks and saves their time; "sample" is less noisy and saves none.
    """

    neutral: ClassVar = {"last": 0.0}

    last: Annotated[float, Ge(0), Lt(1), Search(0.0, 0.5)] = 0.2
    per: Per = "sample"
    mode: Mode = "inverted"

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Put a layer at the end of every branch that has a shortcut beside it. Raises ModelError for a model without any."""
        blocks = residual_blocks(model, self.name)
        check_places_free(blocks)
        blocks = with_shortcuts(model, blocks, self.name)
        if self.per == "batch":
            check_shortcuts(model, blocks, self.name)
        for (name, block, family), p in zip(blocks, linear_decay(self.last, len(blocks)), strict=True):

            def make(end: str, name: str = name, p: float = p) -> StochasticDepth:
                stream = f"stochastic_depth/{name}.{end}"
                return StochasticDepth(p, per=self.per, mode=self.mode, stream=stream, seed=seed)

            put_depth(block, family, make)
        return model
