"""Do fewer pixels do? Pictures smaller than the network's own are enlarged for it: a part of them tells whether that helps.

Where all pictures in the network's own size take more than half a minute, or than a quarter of the time left, and hold fewer
pixels than that, smaller views are compared with it on the pictures of the first answer: on blurred flowers of 128 px, 96 px are
not clearly worse than 224, and all of them are computed in a fifth of the time.
"""

from __future__ import annotations

from descend.search.begin import first_sizes
from descend.search.features import tried_like
from descend.search.steps import FeatureStep
from descend.search.study import Study, TriedHead

MOST_AREA = 0.5  # of the network's own view: a larger one saves too little


def find_smaller_view(study: Study, part: FeatureStep) -> None:
    """Let all pictures be looked at first in the smallest view whose head is not clearly worse than that of a part's own view.

    Both are judged on the pictures of the part, a step that was taken. Notes in the study why, and which share of the loss the
    larger view takes away.
    """
    large = _best(study, part)
    if not are_enlarged(study, part.size) or large is None or large.best is None:
        return
    for size in reversed(first_sizes(study.pretrained, part.size)):
        if size**2 > MOST_AREA * part.size**2:
            return
        small = tried_like(study, FeatureStep(size=size, share=part.share), large)
        if small.best is not None and not small.best.clearly_worse(large.best):
            study.first_size, study.measured_shares[size, part.size] = size, 1 - large.loss / small.loss
            losses = f"held-out loss {small.loss:.3f} and {large.loss:.3f}"
            study.why_smaller = f"not clearly worse than {part.size} on {small.best.n:,} pictures, {losses}"
            study.watch.say(f"  view       {size} px  ({study.why_smaller})")
            return


def why_this_view(study: Study, size: int) -> str:
    """Say what all pictures are looked at first in, and why not in the network's own size."""
    why = "features of the pretrained network, a head fitted to its optimum"
    too_long = f"in {study.native} all pictures take longer than there is time"
    return why if size == study.native else f"{why}, in {size} px: {study.why_smaller or too_long}"


def are_enlarged(study: Study, size: int) -> bool:
    """Return whether most pictures hold fewer pixels than a view of this size."""
    _, median, _ = study.dataset.shorter_side
    return median < size


def _best(study: Study, part: FeatureStep) -> TriedHead | None:
    """Return the best head of a part among those without mirror images and crops."""
    heads = [head for (step, *_), head in study.tried.items() if (step.size, step.share) == (part.size, part.share)]
    return min(heads, key=lambda head: head.loss, default=None)
